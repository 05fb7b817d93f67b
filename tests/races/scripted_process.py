"""A process that runs single steps on command and stops at named steps, so that a test decides the order."""

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
        self._line, far_end = forking.Pipe()
        super().__init__(_follow_script, far_end, variables=environment.variables, log=environment.log("script"))
        far_end.close()
        environment.processes.append(self)
        self.is_busy = False

    # --- Orders. Each returns at once, or when the step is reached.

    def push(self, edit: Edit, *, until: str | None = None) -> None:
        self._begin("push", edit.pk, until)

    def hammer(self, *edits: Edit) -> None:
        """Many threads push all of them at the same time."""
        self._begin("hammer", [edit.pk for edit in edits], None)

    def reconcile(self, edit: Edit, *, until: str | None = None) -> None:
        self._begin("reconcile", edit.pk, until)

    def cancel(self, edit: Edit) -> None:
        self._begin("cancel", edit.pk, None)

    def sync(self, sync: Sync, *, until: str | None = None) -> None:
        self._begin("sync", sync.pk, until)

    def _begin(self, what: str, whom: object, until: str | None) -> None:
        self.is_busy = True
        self._line.send((what, whom, until))
        if until is not None:
            assert self._receive() == f"at {until}"

    # ---

    def resume(self) -> None:
        """From the step at which it stopped."""
        self._line.send("resume")

    def wait_until_done(self) -> str:
        """The result of the order."""
        message = self._receive()
        assert message.startswith("done"), message
        self.is_busy = False
        return message

    def end(self) -> str:
        self.resume()
        return self.wait_until_done()

    def _receive(self) -> str:
        if not self._line.poll(20):
            raise TimeoutError("It sends nothing.")
        return str(self._line.recv())


class _Steps(logging.Handler):
    """Reports that a step was reached, and waits until it may continue."""

    def __init__(self, line: Connection) -> None:
        super().__init__(logging.DEBUG)
        self.line = line
        self.stand_at: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.stand_at is not None and getattr(record, "step", None) == self.stand_at:
            self.line.send(f"at {self.stand_at}")
            self.stand_at = None
            self.line.recv()


def _follow_script(line: Connection) -> None:
    steps = _Steps(line)
    for name in OBSERVED:
        logging.getLogger(name).setLevel(logging.DEBUG)  # It is quiet outside crash tests.
    logging.getLogger("runsadmin.services").addHandler(steps)
    while True:
        try:
            what, whom, steps.stand_at = line.recv()
        except EOFError:
            return
        try:
            line.send(f"done {_ORDERS[what](whom)}")
        except Exception as error:
            logging.getLogger(__name__).exception("It failed.")
            line.send(f"failed {error!r}")


def _push(pk: int) -> EditStatus:
    return EditStatus(edits.push(Edit.objects.get(pk=pk)).status)


def _hammer(pks: list[int], threads: int = 8) -> None:
    together = Barrier(threads)

    def push_all(number: int) -> None:
        together.wait()
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


_ORDERS: dict[str, Callable[[Any], object]] = {
    "push": _push,
    "hammer": _hammer,
    "reconcile": _reconcile,
    "cancel": _cancel,
    "sync": _sync,
}
