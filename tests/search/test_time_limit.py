"""Searches that take too long are stopped."""

import pytest
from django.db import connection

from runsadmin.errors import InvalidSearch
from runsadmin.models import Run
from runsadmin.services.run_search.time_limit import limited

pytestmark = pytest.mark.django_db

ENDLESS = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers) SELECT count(*) FROM numbers"


def test_long_statement_is_stopped_with_a_hint() -> None:
    with pytest.raises(InvalidSearch, match=r"more than 0\.2 seconds.*created:>-7d"), limited(0.2):
        connection.cursor().execute(ENDLESS)

    assert Run.objects.count() == 0  # The connection can be used as before.


def test_limit_ends_with_the_search() -> None:
    with limited(0.01):
        pass

    with connection.cursor() as cursor:
        cursor.execute(ENDLESS.replace("FROM numbers)", "FROM numbers WHERE n < 300000)"))
        assert cursor.fetchone() == (300000,)
