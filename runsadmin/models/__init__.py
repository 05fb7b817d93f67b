from runsadmin.models.bulk_edit import BulkEdit, BulkEditStatus, DraftSelection, EditSource, SelectionSnapshot
from runsadmin.models.compression_state import CompressionState
from runsadmin.models.connection_state import ConnectionState
from runsadmin.models.edit import Edit, EditStatus
from runsadmin.models.export import Export, ExportFormat, ExportStatus
from runsadmin.models.idempotency_key import IdempotencyKey
from runsadmin.models.run import MetadataPair, Run, RunStatus
from runsadmin.models.saved_view import DefaultView, SavedView
from runsadmin.models.shared_text import SharedText
from runsadmin.models.sync import Sync, SyncError, SyncStatus
from runsadmin.models.task import Task
from runsadmin.models.thread import Thread
from runsadmin.models.token_details import TokenDetails
from runsadmin.models.worker import Schedule, Worker
