"""The worker process: lanes that run tasks, and threads for polling and for the heartbeat and recurring tasks."""

import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from types import FrameType
from typing import Any

from django.db import Error as AnyDatabaseError
from django.db import close_old_connections, connections
from django.db.models import QuerySet
from django.tasks import DEFAULT_TASK_BACKEND_ALIAS, TaskResultStatus, task_backends
from django.utils.crypto import get_random_string
from django_tasks_db.management.commands import db_worker
from django_tasks_db.models import DBTaskResult
from django_tasks_db.utils import exclusive_transaction

from runsadmin import db_errors
from runsadmin.engine import attempts, heartbeat, stopping
from runsadmin.engine.database_file import DatabaseFile
from runsadmin.engine.recurring import PRUNE, Entry, enqueue_due
from runsadmin.models.worker import Worker
from runsadmin.text import clean

logger = logging.getLogger(__name__)

MAX_TRACEBACK = 20_000
# In seconds. If polling hangs, such as on a dead connection to the database, the lanes look for tasks themselves.
LONGEST_WAIT = 10.0


def lanes_for_all_queues() -> list[list[str]]:
    """One lane per queue in settings.TASKS, so that no kind of work waits for another."""
    return [[queue] for queue in sorted(task_backends[DEFAULT_TASK_BACKEND_ALIAS].queues)]


class ClaimLostError(Exception):
    """Another worker claimed the task, because this one counted as dead."""


class Lane(db_worker.Worker):
    """A thread that claims tasks from its queues and runs them one at a time.

    `wakes` is set when there may be tasks to claim, and when the process is asked to stop.
    """

    def __init__(self, *, worker_id: str, queue_names: Sequence[str]) -> None:
        self.wakes = threading.Event()
        super().__init__(
            worker_id=worker_id,
            queue_names=list(queue_names),
            excluded_queue_names=[],
            backend_name=DEFAULT_TASK_BACKEND_ALIAS,
            interval=0,  # Only the library's own loop uses it.
            batch=False,
            startup_delay=False,
            max_tasks=None,
        )

    def run(self) -> None:
        """Runs until the process is asked to stop. Unlike the library's loop, it survives failures of the database."""
        while not stopping.is_set():
            with _errors_logged():
                # Repeat this after each error, which may have prevented a result from being stored.
                heartbeat.release(self.worker_id)
                while not stopping.is_set():
                    self.wakes.clear()
                    close_old_connections()
                    if task := self.claim():
                        self.run_task(task)
                    elif not stopping.is_set():
                        close_old_connections()
                        self.wakes.wait(LONGEST_WAIT)
            stopping.wait(1)
        connections.close_all()

    def claim(self) -> DBTaskResult[..., Any] | None:
        ready = DBTaskResult.objects.ready().filter(backend_name=self.backend_name, queue_name__in=self.queue_names)
        # Check before claiming: an idle worker should not take SQLite's only write lock.
        if not ready.exists():
            return None
        with exclusive_transaction(ready.db):
            task = ready.get_locked()
            if task is not None:
                task.claim(self.worker_id)
        return task

    def run_task(self, db_task_result: DBTaskResult[..., Any]) -> None:
        """Runs the task. The library stores its result or traceback, but only while the claim is still ours."""
        setattr(db_task_result, "save", partial(_save_if_claimed, db_task_result))  # noqa: B010 - mypy rejects `save =`.
        try:
            super().run_task(db_task_result)
        except ClaimLostError:
            logger.warning("Task id=%s was claimed by another worker: result discarded", db_task_result.pk)
        except Exception as error:
            if db_errors.is_database_failure(error):  # Once the database works again, the task runs again.
                raise
            logger.exception("The result of task id=%s could not be stored", db_task_result.pk)
            attempts.end(_claim_of(db_task_result), f"Its result could not be stored: {type(error).__name__}.\n")


def _save_if_claimed(task: DBTaskResult[..., Any], *, update_fields: list[str], **_: Any) -> None:
    close_old_connections()  # The database may have restarted during a long task.
    # A traceback may quote a text that no database can store: that may be why the task failed.
    task.traceback = _shortened(clean(task.traceback))
    if not _claim_of(task).update(**{field: getattr(task, field) for field in update_fields}):
        raise ClaimLostError


def _claim_of(task: DBTaskResult[..., Any]) -> "QuerySet[DBTaskResult[..., Any]]":
    # Every claim appends to `worker_ids`, so an equal list is the same claim.
    return DBTaskResult.objects.filter(pk=task.pk, status=TaskResultStatus.RUNNING, worker_ids=task.worker_ids)


def _shortened(traceback: str) -> str:
    """The beginning and the end of a traceback, which may quote a whole response."""
    if len(traceback) <= MAX_TRACEBACK:
        return traceback
    return f"{traceback[: MAX_TRACEBACK // 4]}\n…\n{traceback[-MAX_TRACEBACK * 3 // 4 :]}"


class WorkerProcess:
    """The process of `manage.py worker`."""

    def __init__(
        self,
        *,
        schedule: Iterable[Entry],
        lanes: Sequence[Sequence[str]],
        poll_every: float = 0.25,
        beat_every: float = 2,
        dead_after: float = 10,
    ) -> None:
        self.id = f"{socket.gethostname()[:40]}-{os.getpid()}-{get_random_string(8)}"
        self.entries = (*schedule, PRUNE)
        self.poll_every = poll_every
        self.beat_every = beat_every
        self.dead_after = timedelta(seconds=dead_after)
        self.lanes = [Lane(worker_id=f"{self.id}/{number}", queue_names=queues) for number, queues in enumerate(lanes)]
        self.idle = threading.Event()
        self.database_file = DatabaseFile()
        self.lost_database = False
        self.has_signal = False

    def run(self) -> None:
        """Runs until SIGTERM or SIGINT, then lets requests in flight end. A second signal ends the process at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        # Must precede any claim, since tasks of a worker without a row are requeued.
        heartbeat.beat(self.id, dead_after=self.dead_after)
        connections.close_all()  # This thread needs no connection while it waits.
        # These objects live as long as the process. Checking them for garbage took a tenth of the time of a first sync.
        gc.freeze()
        logger.info("Worker %s started", self.id)
        beating = threading.Thread(target=self.beat_loop, name="heartbeat", daemon=True)
        polling = threading.Thread(target=self.poll_loop, name="poll", daemon=True)
        threads = [threading.Thread(target=lane.run, name=lane.worker_id, daemon=True) for lane in self.lanes]
        for thread in (beating, polling, *threads):
            thread.start()
        for thread in threads:
            while thread.is_alive():
                # Without a timeout, joining would block signal handlers, which Python runs in this thread.
                thread.join(0.2)
        self.idle.set()
        beating.join()
        logger.info("Worker %s ended", self.id)
        if self.lost_database:
            raise SystemExit(1)

    def stop(self, number: int, frame: FrameType | None) -> None:
        if self.has_signal:
            os._exit(1)  # Other workers requeue its tasks, as after any crash.
        self.has_signal = True
        stopping.set()

    def poll_loop(self) -> None:
        """Wakes the lanes whose queues have tasks. One query serves all lanes: polling in each would take CPU time."""
        while not stopping.wait(self.poll_every):
            with _errors_logged():
                ready = DBTaskResult.objects.ready().filter(backend_name=DEFAULT_TASK_BACKEND_ALIAS)
                queues = set(ready.order_by().values_list("queue_name", flat=True).distinct())
                for lane in self.lanes:
                    if not queues.isdisjoint(lane.queue_names):
                        lane.wakes.set()
        for lane in self.lanes:
            lane.wakes.set()
        connections.close_all()

    def beat_loop(self) -> None:
        """Runs alongside the lanes until all of them have ended."""
        while not self.idle.wait(self.beat_every):
            if not self.lost_database and self.database_file.was_replaced():
                self.lost_database = True
                logger.error(
                    "The database file %s was deleted or replaced while this worker used it, so the worker stops. What "
                    "it stores meanwhile is lost. Stop all other workers and web processes as well, then start them.",
                    self.database_file.name,
                )
                stopping.set()
            with _errors_logged():
                if heartbeat.beat(self.id, dead_after=self.dead_after):
                    heartbeat.requeue_dead(dead_after=self.dead_after)
                enqueue_due(self.entries)
        with _errors_logged():
            Worker.objects.filter(pk=self.id).delete()
        connections.close_all()


@contextmanager
def _errors_logged() -> Iterator[None]:
    """Logs errors outside of tasks instead of ending the worker. An unreachable database needs no traceback."""
    try:
        close_old_connections()
        yield
        close_old_connections()
    except AnyDatabaseError as error:
        logger.error("%s", db_errors.described(error))
        db_errors.note_if_read_only(error)
        with suppress(AnyDatabaseError):
            connections.close_all()  # A new connection may work again: see `db_errors`.
    except Exception:
        logger.exception("An error occurred outside of tasks")
