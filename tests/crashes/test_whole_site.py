"""`make run` stops at any time, and leaves nothing behind. The large version is `python -m loadtests.whole_site`."""

import os
import signal
from collections.abc import Iterator

import pytest

from loadtests.processes import free_port
from loadtests.whole_site import ENDS_WITHIN, WholeSite, kill, stop_after
from tests.waiting import until


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeSite]:
    site = WholeSite(tmp_path_factory.mktemp("site"), port=free_port(), sandbox_port=free_port())
    site.start()
    site.wait()
    yield site
    site.end()


def test_killed_web_process_is_replaced(site: WholeSite) -> None:
    site.start()
    site.wait()
    master, *forked = site.web_processes()
    os.kill(forked[0], signal.SIGKILL)
    until(lambda: len(replaced := site.web_processes()) == len(forked) + 1 and forked[0] not in replaced, seconds=10)
    assert site.web_processes()[0] == master
    assert site.is_ready()


def test_sigterm_ends_everything_at_any_time(site: WholeSite) -> None:
    for seconds in (0.1, 0.5, 1.5, 4):
        assert stop_after(site, seconds) < ENDS_WITHIN


@pytest.mark.parametrize("name", ["scripts/run.py", "web", "worker"])
def test_killed_process_leaves_no_orphans(site: WholeSite, name: str) -> None:
    assert kill(site, name) < 2 * ENDS_WITHIN
