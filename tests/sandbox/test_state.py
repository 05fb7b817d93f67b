import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
import requests

from tests.sandbox.conftest import Api
from tests.sandbox_client import Sandbox, make_run

type StartSandbox = Callable[[], Sandbox]


@pytest.fixture
def start_sandbox(tmp_path: Path) -> Iterator[StartSandbox]:
    """Starts sandboxes that keep their state in `tmp_path`."""
    started = []

    def start_sandbox() -> Sandbox:
        started.append(Sandbox.start(state=tmp_path))
        return started[-1]

    yield start_sandbox
    for sandbox in started:
        sandbox.stop()


@pytest.mark.parametrize("end", [Sandbox.stop, Sandbox.kill], ids=["SIGTERM", "SIGKILL"])
def test_acknowledged_writes_survive_a_restart(start_sandbox: StartSandbox, end: Callable[[Sandbox], object]) -> None:
    sandbox = start_sandbox()
    api = Api(sandbox)
    changed, deleted, failed, _ = runs = [make_run(thread_id="thread_a", created_at=7) for _ in range(4)]
    sandbox.put_runs([*runs, make_run(thread_id="thread_gone")])
    api.modify(changed, {"team": "red"})
    api.post("/threads/thread_a", {"metadata": {"channel": "mail"}})
    api.call("DELETE", "/threads/thread_gone")
    sandbox.delete_run(deleted["id"])
    sandbox.change_run(failed["id"], status="failed")
    created = api.post("/threads").json()
    before = sandbox.runs()
    assert len(before) == 3
    pages = [api.get("/threads/thread_a/runs").json(), api.get("/threads").json()]

    for _ in range(2):  # The second restart reads the journal that the first one rewrote.
        end(sandbox)
        sandbox.restart()
        assert sandbox.runs() == before
        assert [api.get("/threads/thread_a/runs").json(), api.get("/threads").json()] == pages
        assert api.get("/threads/thread_a").json()["metadata"] == {"channel": "mail"}
        assert api.get(f"/threads/{created['id']}").json() == created
        assert api.get("/threads/thread_gone").status_code == 404
    api.session.close()


def test_kill_during_writes_loses_nothing(start_sandbox: StartSandbox) -> None:
    sandbox = start_sandbox()
    sandbox.put_runs([run := make_run()])
    acknowledged = []

    def write() -> None:
        api = Api(sandbox)
        for number in range(100_000):
            try:
                api.modify(run, {"number": str(number)})
            except requests.RequestException:
                break
            acknowledged.append(number)
        api.session.close()

    writer = Thread(target=write)
    writer.start()
    while len(acknowledged) < 200 and writer.is_alive():
        time.sleep(0.01)
    sandbox.kill()
    writer.join()
    sandbox.restart()
    assert int(sandbox.metadata(run["id"])["number"]) in (acknowledged[-1], acknowledged[-1] + 1)


def test_truncated_last_line_is_skipped(start_sandbox: StartSandbox, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    sandbox.put_runs([run := make_run()])
    sandbox.kill()
    with (tmp_path / "journal").open("ab") as journal:
        journal.write(b'run {"id":"run_torn","thread')
    sandbox.restart()
    assert sandbox.runs() == {run["id"]: run}
    sandbox.put_runs([other := make_run()])
    sandbox.restart()
    assert sandbox.runs() == {run["id"]: run, other["id"]: other}


def test_journal_is_rewritten_at_startup(start_sandbox: StartSandbox, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    run = make_run()
    for number in range(50):
        sandbox.put_runs([run | {"metadata": {"number": str(number)}}])
    assert len((tmp_path / "journal").read_bytes().splitlines()) == 50
    sandbox.restart()
    assert len((tmp_path / "journal").read_bytes().splitlines()) == 2  # One line for the thread, one for the run.
    assert sandbox.metadata(run["id"]) == {"number": "49"}


def test_reset_survives_a_restart(start_sandbox: StartSandbox) -> None:
    sandbox = start_sandbox()
    sandbox.put_runs([make_run()])
    sandbox.reset()
    sandbox.restart()
    assert sandbox.runs() == {}


def test_faults_settings_and_log_are_not_saved(start_sandbox: StartSandbox) -> None:
    sandbox = start_sandbox()
    before = sandbox.settings()
    sandbox.fault("lose")
    sandbox.settings(modify="merge", api_key="another-key")
    sandbox.restart()
    assert (sandbox.faults(), sandbox.settings(), sandbox.log()) == ([], before, [])


def test_two_sandboxes_cannot_share_a_state(start_sandbox: StartSandbox, capfd: pytest.CaptureFixture[str]) -> None:
    sandbox = start_sandbox()
    with pytest.raises(RuntimeError, match="exit code 1"):
        start_sandbox()
    assert "another sandbox is using" in capfd.readouterr().err
    assert sandbox.runs() == {}


@pytest.mark.parametrize("journal", [b"hello\n", b"run {}\n", b'run {"id"\n', b'run-gone "run_a"\n'])
def test_unreadable_journal_is_left_unchanged(
    start_sandbox: StartSandbox, tmp_path: Path, capfd: pytest.CaptureFixture[str], journal: bytes
) -> None:
    (tmp_path / "journal").write_bytes(journal)
    with pytest.raises(RuntimeError, match="exit code 1"):
        start_sandbox()
    error = capfd.readouterr().err
    assert error.startswith("The sandbox cannot open its state: line 1 of")
    assert len(error.splitlines()) == 1
    assert (tmp_path / "journal").read_bytes() == journal
