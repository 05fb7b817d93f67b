"""A small bulk edit in trouble. The large one is a script: `python -m tests.crashes.bulk`."""

import time
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User

from runsadmin.bulk_patch import BulkPatch
from runsadmin.models import BulkEdit, Edit
from runsadmin.models.edit import UNSETTLED
from runsadmin.services import bulk_edits
from tests.bulk import whole
from tests.crashes.flood import Flood, told_of
from tests.crashes.scene import Scene
from tests.waiting import until

E = Edit.Status
STOPS_WITHIN = 3.0


def test_five_hundred_edits_and_three_kills_lose_nothing_and_all_of_it_can_be_undone(scene: Scene) -> None:
    report = Flood(scene, edits=500, per_thread=50, workers=1, hurried=True, seed=1).under_kills(3)
    assert report.is_clean, f"\n{report}"
    assert report.outcomes == {E.APPLIED: 500}, f"\n{report}"
    assert report.edits_claimed_by_those_who_were_killed, f"\n{report}"


@pytest.fixture
def under_way(scene: Scene) -> BulkEdit:
    """A bulk edit with sixteen requests in flight, each of which takes a while."""
    scene.make_runs(400, per_thread=50)
    scene.sandbox.settings(latency_ms=300)
    selection = bulk_edits.by_search("metadata.team:blue")
    planned = bulk_edits.plan(
        selection=selection,
        patch=BulkPatch({"team": "red"}),
        actor=scene.alice,
        source=Edit.Source.ADMIN,
        reason="moved",
    )
    scene.sandbox.clear_log()
    bulk_edit = bulk_edits.apply(bulk_edit=whole(planned), actor=scene.alice)
    scene.worker()
    until(lambda: sum(call["received_at"] is None for call in scene.sandbox.posts()) >= 16)
    return bulk_edit


@pytest.mark.parametrize("stop", [bulk_edits.pause, bulk_edits.cancel])
def test_within_three_seconds_of_a_stop_nothing_is_sent_any_more(
    stop: Callable[..., BulkEdit], scene: Scene, alice: User, under_way: BulkEdit
) -> None:
    stopped_at = time.time()
    bulk_edit = stop(bulk_edit=under_way, actor=alice)
    time.sleep(STOPS_WITHIN + 1)
    last = max(call["at"] for call in scene.sandbox.log())
    assert last - stopped_at <= STOPS_WITHIN
    until(lambda: not bulk_edit.edits.filter(status__in=(E.SENDING, E.UNKNOWN)).exists())
    sent = len(scene.sandbox.posts())
    assert 16 <= sent < 400
    left = E.PENDING if stop is bulk_edits.pause else E.CANCELLED
    until(lambda: told_of(bulk_edit) == {E.APPLIED: sent, left: 400 - sent})
    assert not bulk_edit.edits.filter(status__in=UNSETTLED).exclude(status=left).exists()
    upstream = [run["metadata"]["team"] for run in scene.sandbox.runs().values()]
    assert (upstream.count("red"), upstream.count("blue")) == (sent, 400 - sent)
