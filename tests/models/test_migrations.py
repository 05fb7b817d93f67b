"""What a migration makes of rows that an older version wrote."""

import datetime as dt
from collections.abc import Callable
from importlib import import_module

import pytest
from django.apps import apps
from django.db import connection

from runsadmin.models import Pair, Run
from tests.sandbox_client import Sandbox

EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)


@pytest.mark.django_db
def test_stored_runs_are_read_again(sandbox: Sandbox, mirrored: Callable[..., Run]) -> None:
    good = mirrored(metadata={"a": "b"})
    iso = mirrored(metadata={"a": "b"}, usage={"total_tokens": 7})
    none, infinite = mirrored(metadata={"a": "b"}), mirrored(metadata={"a": "b"}, seed=1)
    raw = iso.raw.replace(f'"created_at":{int(iso.created_at.timestamp())}', '"created_at":"2023-11-14T22:13:20Z"')
    Run.objects.filter(pk=iso.pk).update(raw=raw.replace('"total_tokens":7', '"total_tokens":"7"'), total_tokens=None)
    raw = none.raw.replace(f'"created_at":{int(none.created_at.timestamp())}', '"created_at":"soon"')
    Run.objects.filter(pk=none.pk).update(raw=raw)
    Run.objects.filter(pk__in=[iso.pk, none.pk]).update(created_at=EPOCH)
    Pair.objects.filter(run__in=[iso.pk, none.pk]).update(created_at=EPOCH)
    Run.objects.filter(pk=infinite.pk).update(raw=infinite.raw.replace('"seed":1', '"seed":Infinity'))

    import_module("runsadmin.migrations.0005_read_stored_values").read_again(apps, connection.schema_editor())

    for run in (good, iso, none, infinite):
        run.refresh_from_db()
        assert set(run.pairs.values_list("created_at", flat=True)) == {run.created_at}
    assert good.version == 1
    assert (iso.created_at.timestamp(), iso.total_tokens, iso.version) == (1_700_000_000, 7, 2)
    assert (none.created_at, none.created_at_is_known) == (none.asked_at, False)
    assert '"seed":null' in infinite.raw
