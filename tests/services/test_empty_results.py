"""The explanation of an empty result."""

import pytest
from django.utils import timezone

from runsadmin.models import Sync, SyncError, Thread
from runsadmin.services import empty_results
from runsadmin.services.empty_results import Explanation
from runsadmin.services.run_search import RunSearch
from tests.conftest import MakeRun

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def runs(mirror_run: MakeRun) -> None:
    mirror_run(status="failed", metadata={"team": "billing"})
    mirror_run(model="gpt-4o-mini", metadata={"environment": "prod"})
    Thread.objects.update(fully_checked_at=timezone.now())


def explain(text: str) -> Explanation:
    searched = RunSearch.parse(text)
    assert not searched.matching().exists()
    return empty_results.explain(searched)


def test_clauses_are_counted() -> None:
    failed, mini = explain("status:failed model:gpt-4o-mini").clauses
    assert (str(failed.node), failed.count, str(failed.others.node), failed.others.count) == (
        "status:failed", 1, "model:gpt-4o-mini", 1,
    )  # fmt: skip
    assert failed.is_cause
    assert mini.is_cause

    typo, team = explain("status:faild metadata.team:billing").clauses
    assert (typo.count, typo.is_cause) == (0, True)
    assert (team.count, team.is_cause) == (1, False)


@pytest.mark.parametrize(
    ("text", "proposed"),
    [
        ("status:faild metadata.team:billing", "status:failed metadata.team:billing"),
        ("metadata.team:Biling", "metadata.team:billing"),
        ("metadata.taem:billing", "metadata.team:billing"),
        ("metadata.env:prod", "metadata.environment:prod"),
        ("metadata.enviroment:*", "metadata.environment:*"),
        ("model:GPT-4O-mini", "model:gpt-4o-mini"),
        ("bilings", "metadata.team:billing"),
    ],
)
def test_proposals_find_runs(text: str, proposed: str) -> None:
    proposals = explain(text).proposals
    assert proposed in [str(each.node) for each in proposals]
    for each in proposals:
        assert each.count
        assert RunSearch.parse(str(each.node)).matching().count() == each.count


def test_proposal_keeps_every_clause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(empty_results, "MAX_CLAUSES", 1)
    explanation = explain("status:faild metadata.team:billing")
    assert len(explanation.clauses) == 1
    assert [str(each.node) for each in explanation.proposals] == ["status:failed metadata.team:billing"]


def test_nothing_similar_gives_no_proposal() -> None:
    assert explain("status:zzzzzz").proposals == []


def test_slow_counts_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(empty_results, "SECONDS", -1)
    explanation = explain("status:faild model:gpt-4o-mini")
    assert [clause.count for clause in explanation.clauses] == [None, None]
    assert explanation.proposals == []


def test_incomplete_threads_are_named(mirror_run: MakeRun) -> None:
    assert explain("nothing").incomplete == []
    thread = Thread.objects.latest("pk")
    sync = Sync.objects.create(connection="default", kind=Sync.Kind.FULL)
    SyncError.objects.create(sync=sync, thread=thread, message="403")
    unread = Thread.objects.create(connection="default", upstream_id="thread_unread")
    Thread.objects.create(connection="default", upstream_id="thread_left", tracked=False)

    assert set(explain("nothing").incomplete) == {thread, unread}
