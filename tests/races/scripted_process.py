"""A process that runs commands and stops at named steps, so that a test controls the order of steps."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from threading import Barrier
from time import monotonic
from typing import Any

from django.db import connection

from loadtests.crash_points import OBSERVED
from loadtests.environment import Environment
from loadtests.processes import Process, forking
from runsadmin.errors import InvalidTransition
from runsadmin.models import Edit, Sync
from runsadmin.models.edit import EditStatus
from runsadmin.services import edits, syncs


class ScriptedProcess(Process):
    def __init__(self, environment: Environment) -> None:
        self._pipe, far_end = forking.Pipe()
        super().__init__(_follow_script, far_end, variables=environment.variables, log=environment.log("script"))
        far_end.close()
        environment.processes.append(self)
        self.is_busy = False

    # --- Commands. Each returns at once or, with `until`, when the process has reached that step.

    def push(self, edit: Edit, *, until: str | None = None) -> None:
        self._begin("push", edit.pk, until)

    def push_in_many_threads(self, *edits: Edit) -> None:
        """Many threads push all of the edits at the same time."""
        self._begin("push_in_many_threads", [edit.pk for edit in edits], None)

    def reconcile(self, edit: Edit, *, until: str | None = None) -> None:
        self._begin("reconcile", edit.pk, until)

    def cancel(self, edit: Edit) -> None:
        self._begin("cancel", edit.pk, None)

    def sync(self, sync: Sync, *, until: str | None = None) -> None:
        self._begin("sync", sync.pk, until)

    def _begin(self, command: str, argument: object, until: str | None) -> None:
        self.is_busy = True
        self._pipe.send((command, argument, until))
        if until is not None:
            assert self._receive() == f"at {until}"

    # --- The rest of a command

    def resume(self) -> None:
        """Continues the command from the step at which the process has stopped."""
        self._pipe.send("resume")

    def wait_until_done(self) -> str:
        """Returns the result of the command."""
        message = self._receive()
        assert message.startswith("done"), message
        self.is_busy = False
        return message

    def finish(self) -> str:
        self.resume()
        return self.wait_until_done()

    def _receive(self) -> str:
        if not self._pipe.poll(20):
            raise TimeoutError("The process has sent nothing in time.")
        return str(self._pipe.recv())


class _StepHandler(logging.Handler):
    """Reports that a step is reached, and waits there for the message to resume."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__(logging.DEBUG)
        self.pipe = pipe
        self.stop_at: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.stop_at is not None and getattr(record, "step", None) == self.stop_at:
            self.pipe.send(f"at {self.stop_at}")
            self.stop_at = None
            self.pipe.recv()


def _follow_script(pipe: Connection) -> None:
    handler = _StepHandler(pipe)
    for name in OBSERVED:
        logging.getLogger(name).setLevel(logging.DEBUG)  # Outside of crash tests, steps are not logged.
    logging.getLogger("runsadmin.services").addHandler(handler)
    while True:
        try:
            command, argument, handler.stop_at = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(f"done {_COMMANDS[command](argument)}")
        except Exception as error:
            logging.getLogger(__name__).exception("The command failed.")
            pipe.send(f"failed {error!r}")


def _push(pk: int) -> EditStatus:
    return EditStatus(edits.push(Edit.objects.get(pk=pk)).status)


def _push_in_many_threads(pks: list[int], threads: int = 8) -> None:
    barrier = Barrier(threads)

    def push_all(number: int) -> None:
        barrier.wait()
        try:
            for pk in pks if number % 2 else reversed(pks):
                _push(pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(push_all, range(threads)))


def _reconcile(pk: int) -> EditStatus:
    return EditStatus(edits.reconcile(Edit.objects.get(pk=pk)).status)


def _cancel(pk: int) -> str:
    edit = Edit.objects.select_related("actor").get(pk=pk)
    try:
        return str(edits.cancel(edit=edit, actor=edit.actor).status)
    except InvalidTransition:
        return "illegal"


def _sync(pk: int) -> str:
    return str(syncs.run(Sync.objects.get(pk=pk), until=monotonic() + 30).status)


_COMMANDS: dict[str, Callable[[Any], object]] = {
    "push": _push,
    "push_in_many_threads": _push_in_many_threads,
    "reconcile": _reconcile,
    "cancel": _cancel,
    "sync": _sync,
}
