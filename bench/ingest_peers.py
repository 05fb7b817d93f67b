"""What one would write instead of the product's ingest: Django's own calls, one object at a time.

They write the same rows into the same tables. A page is one transaction, which is faster for them than one per object.
"""

import datetime as dt
import json
from typing import Any

from django.db import transaction
from django.utils import timezone

from runsadmin.models import MetadataPair, Run, Thread


def get_set_save(thread: Thread, body: bytes) -> None:
    with transaction.atomic():
        for item in json.loads(body)["data"]:
            try:
                run = Run.objects.get(connection=thread.connection, upstream_id=item["id"])
            except Run.DoesNotExist:
                run = Run(connection=thread.connection, upstream_id=item["id"])
            for name, value in _columns(thread, item).items():
                setattr(run, name, value)
            run.save()


def update_or_create(thread: Thread, body: bytes) -> None:
    with transaction.atomic():
        for item in json.loads(body)["data"]:
            _update_or_create(thread, item)


def update_or_create_with_pairs(thread: Thread, body: bytes) -> None:
    with transaction.atomic():
        for item in json.loads(body)["data"]:
            run = _update_or_create(thread, item)
            metadata = item["metadata"]
            run.pairs.exclude(key__in=metadata).delete()
            MetadataPair.objects.bulk_create(
                [
                    MetadataPair(run=run, key=key, value=value, created_at=run.created_at)
                    for key, value in metadata.items()
                ],
                update_conflicts=True,
                unique_fields=["run", "key"],
                update_fields=["value"],
            )


def _update_or_create(thread: Thread, item: dict[str, Any]) -> Run:
    run, _ = Run.objects.update_or_create(
        connection=thread.connection, upstream_id=item["id"], defaults=_columns(thread, item)
    )
    return run


def _columns(thread: Thread, item: dict[str, Any]) -> dict[str, Any]:
    now = timezone.now()
    usage = item["usage"] or {}
    times = {
        name: _time(item[name])
        for name in ("created_at", "started_at", "expires_at", "cancelled_at", "failed_at", "completed_at")
    }
    ended_at = times["completed_at"] or times["failed_at"] or times["cancelled_at"]
    return {
        "thread": thread,
        "status": item["status"],
        "model": item["model"],
        "assistant_id": item["assistant_id"],
        "error_code": (item["last_error"] or {}).get("code", ""),
        **times,
        "duration": ended_at - times["started_at"] if ended_at and times["started_at"] else None,
        "prompt_tokens": usage.get("prompt_tokens"),
        "completion_tokens": usage.get("completion_tokens"),
        "total_tokens": usage.get("total_tokens"),
        "raw": json.dumps(item),
        "requested_at": now,
        "received_at": now,
    }


def _time(seconds: int | None) -> dt.datetime | None:
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)
