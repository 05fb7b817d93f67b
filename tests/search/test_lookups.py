"""The pairs of a run are looked up by its primary key, not by reading all pairs with a value."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from runsadmin import search
from runsadmin.models import Run
from runsadmin.services.search_time_limit import limited
from tests.search.test_plans import plan_of, runs  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db

INDEX = {"sqlite": "(run_id=?", "postgresql": "runsadmin_metadatapair_pkey"}


@pytest.mark.parametrize(
    "text", ["metadata.env:prod", "metadata.rare:x", "metadata.env:p*", "metadata.rare:(x OR y)", "metadata.rare:>a"]
)
@pytest.mark.usefixtures("runs")
def test_pairs_are_read_by_run(text: str) -> None:
    node = search.parse(text)
    assert node is not None
    few = list(Run.objects.values_list("pk", flat=True)[:100])
    with limited(), CaptureQueriesContext(connection) as captured:
        list(Run.objects.filter(search.condition(node), pk__in=few).values_list("pk"))
    plan = plan_of(captured.captured_queries[-1]["sql"])
    lookups = [line for line in plan if "U0" in line]  # Django's name for the pairs in the subquery.
    assert lookups
    assert all(INDEX[connection.vendor] in line for line in lookups), plan
