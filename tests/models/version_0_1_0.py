"""Fills the tables of version 0.1.0, apart from those of runs, and reads the rows of all tables."""

import datetime as dt
import uuid
from collections.abc import Iterable
from typing import Any

from django.apps.registry import Apps
from django.db.models import Model

from runsadmin.metadata import Metadata, MetadataPatch
from runsadmin.models.bulk_edit import pack_keys
from runsadmin.models.edit import ENDED, EditStatus

type Tables = dict[str, list[dict[str, Any]]]

# Columns whose values the migrations change, and tables that they replace. Other tests check their values.
CHANGED = {"runsadmin.Run": {"digest", "raw"}, "runsadmin.MetadataPair": {"id", "connection"}}
REMOVED = {"runsadmin.ApiRateState"}


def fill(apps: Apps, now: dt.datetime) -> None:
    def create(name: str, /, **values: Any) -> Any:
        return apps.get_model("runsadmin", name)._default_manager.create(**values)

    alice = apps.get_model("auth", "User")._default_manager.create(username="alice", is_superuser=True)
    runs = list(apps.get_model("runsadmin", "Run")._default_manager.order_by("pk")[: len(EditStatus)])
    thread = runs[0].thread
    bulk_edit = create(
        "BulkEdit", source="admin", reason="größe 🙂", connection="default", query="metadata.team:*", selected=2,
        set={"team": "{model}"}, rename={"a": "b"}, status="paused", canary=1, wait_for_active=dt.timedelta(minutes=5),
        running_since=now, actor=alice, applied_by=alice,
    )  # fmt: skip
    create("BulkEdit", source="api", reason="x", connection="default", status="completed", finished_at=now, actor=alice)
    create("SelectionSnapshot", bulk_edit=bulk_edit, packed=pack_keys([run.pk for run in runs]))
    create("DraftSelection", connection="default", packed=pack_keys([2**40]), actor=alice)
    for run, status in zip(runs, EditStatus, strict=True):
        claim = {"claim_token": uuid.uuid4(), "claimed_until": now} if status == EditStatus.SENDING else {}
        edit = create(
            "Edit", run=run, actor=alice, source="api", reason="a reason", status=status.value,
            patch=MetadataPatch({"team": "röt"}, frozenset({"ticket"})), base=Metadata({"ticket": "OPS-1"}),
            before=Metadata({"ticket": "OPS-1"}), intended=Metadata({"team": "röt"}), after=Metadata({"team": "röt"}),
            sent_at=now, finished_at=now if status in ENDED else None, race_window=dt.timedelta(milliseconds=122),
            bulk_edit=bulk_edit if status == EditStatus.PLANNED else None, **claim,
        )  # fmt: skip
    create("Edit", run=runs[0], actor=alice, source="api", patch=MetadataPatch({"a": "b"}), undoes=edit)
    create("IdempotencyKey", endpoint="run", key="key", body_digest="0" * 64, edit=edit, user=alice)
    create("ConnectionState", alias="default", hold="operator", hold_detail="Stopped.", held_since=now, not_before=now)
    sync = create("Sync", connection="default", kind="full", status="running", thread=thread, cursor="run_1")
    create("SyncError", sync=sync, thread=thread, run_id="run_2", message="It could not be read.")
    create("Schedule", name="push_edits", due_at=now)
    create("Worker", id="host-1-abcdefgh", seen_at=now)
    create("ApiRateState", user=alice, free_at=now)


def tables(models: Iterable[type[Model]], columns: Tables | None = None) -> Tables:
    """The rows of all tables of these models, or only their `columns` that exist in both versions."""
    found: Tables = {}
    for model in models:
        if (label := model._meta.label) in REMOVED or (columns is not None and label not in columns):
            continue
        names = {field.attname for field in model._meta.concrete_fields} - CHANGED.get(label, set())
        if columns:
            names &= columns[label][0].keys()
        rows = list(model._default_manager.values(*sorted(names)))
        found[label] = sorted(rows, key=repr)
    return found
