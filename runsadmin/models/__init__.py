from runsadmin.models.bulk_edit import BulkEdit, BulkEditStatus, Selection
from runsadmin.models.connection_state import ConnectionState
from runsadmin.models.edit import Edit, EditStatus
from runsadmin.models.idempotency_key import IdempotencyKey
from runsadmin.models.quota import Quota
from runsadmin.models.run import Pair, Run, RunStatus
from runsadmin.models.sync import Sync, SyncError, SyncStatus
from runsadmin.models.thread import Thread
from runsadmin.models.worker import Schedule, Worker

__all__ = [
    "BulkEdit",
    "BulkEditStatus",
    "ConnectionState",
    "Edit",
    "EditStatus",
    "IdempotencyKey",
    "Pair",
    "Quota",
    "Run",
    "RunStatus",
    "Schedule",
    "Selection",
    "Sync",
    "SyncError",
    "SyncStatus",
    "Thread",
    "Worker",
]
