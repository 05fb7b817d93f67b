from typing import Any

from django.db import migrations

from runsadmin import jsontext
from runsadmin.metadata import MetadataState
from runsadmin.upstream.records import RunRecord

BLOCK = 500


def read_again(apps: Any, schema_editor: object) -> None:
    """Before, a time that could not be read was 1970, times and usage as text were not read, and infinities stored."""
    runs, pairs = apps.get_model("runsadmin", "Run").objects, apps.get_model("runsadmin", "Pair").objects
    last = 0
    while block := list(runs.filter(pk__gt=last).select_related("thread").order_by("pk")[:BLOCK]):
        last = block[-1].pk
        for run in block:
            answer = jsontext.loads(run.raw)
            damaged = answer.unreadable if isinstance(answer, jsontext.Damaged) else frozenset()
            record = RunRecord(answer, run.upstream_id, run.thread.upstream_id, damaged=damaged)
            values = record.columns
            if record.created_at is None and run.created_at_is_known and run.created_at.year == 1970:
                values |= {"created_at": run.asked_at, "created_at_is_known": False}
            if "metadata" in damaged:
                values["metadata_state"] = MetadataState.UNREADABLE
            if damaged:
                values |= {"raw": record.raw, "digest": record.digest}
            changed = {name: value for name, value in values.items() if getattr(run, name) != value}
            if changed:
                runs.filter(pk=run.pk).update(**changed, version=run.version + 1)
            if "created_at" in changed:
                pairs.filter(run=run.pk).update(created_at=changed["created_at"])


class Migration(migrations.Migration):
    dependencies = [("runsadmin", "0004_what_edits_wait_for")]

    operations = [migrations.RunPython(read_again, migrations.RunPython.noop)]
