"""Ids with characters other than letters, digits, hyphens, underscores, dots and colons."""

import html
import re
from collections.abc import Callable
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from runsadmin import search
from runsadmin.bulk_patch import BulkPatch
from runsadmin.ids import is_id
from runsadmin.models import Edit, Run, SyncError, Thread
from runsadmin.services import bulk_edits, threads
from tests.api.conftest import ApiOf, api  # noqa: F401 - a fixture
from tests.bulk import complete_plan
from tests.fake_upstream import FakeUpstream, Request, Response, list_response
from tests.quirks.conftest import push, sync
from tests.sandbox_client import make_run

type Mirror = Callable[..., list[Run]]

VALID = {
    "space": "run 1",
    "base64": "abc+def==",
    "address": "x@y",
    "slash": "2024/05/run",
    "percent": "100%",
    "percent-encoded": "run%2Fa",
    "question mark and hash": "run?a=b&c#d",
    "quotes": 'it\'s "run" <1>',
    "backslash": "a\\b",
    "semicolon": "run;v=1",
    "braces": "{8f14e45f-ceea}",
    "not ASCII": "прогон-1",
    "emoji": "run_🙂",
    "dots": "...",
    "like an action": "run/refresh",
    "like a list": "edits",
    "surrounding spaces": " run ",
    "128 characters of 4 bytes": "🙂" * 128,
}
INVALID = {
    "empty": "",
    "too long": "r" * 129,
    "U+0000": "run\0",
    "newline": "run\n1",
    "escape": "run\x1b[2J",
    "C1 control": "run\x85",
    "line separator": "run\u20281",
    "lone surrogate": "run_\ud83d",
    "slash": "/",
    "double slash": "a//b",
    "dot": ".",
    "path of dots": "a/../b",
    "beginning with dots": "../x",
    "dots": "..",
}
valid = pytest.mark.parametrize("id", VALID.values(), ids=VALID)
invalid = pytest.mark.parametrize("id", INVALID.values(), ids=INVALID)


@pytest.fixture
def mirror_run_with_id(mirror_runs: Mirror) -> Callable[[str], Run]:
    """Mirrors a run with this id, in a thread with the same id."""
    return lambda id: mirror_runs(make_run(id=id, thread_id=id, metadata={"ticket": "1"}))[0]


@valid
def test_edit_reaches_upstream(
    id: str, mirror_run_with_id: Callable[[str], Run], upstream: FakeUpstream, alice: User
) -> None:
    edit = push(mirror_run_with_id(id), alice)
    assert (edit.status, edit.detail) == (Edit.Status.APPLIED, "")
    assert upstream.metadata(id) == {"ticket": "1", "triage": "done"}
    (write,) = upstream.writes
    assert write.parts == ("threads", id, "runs", id)


@valid
@pytest.mark.django_db(transaction=True)
def test_rest_reads_and_edits_the_run(
    id: str,
    mirror_run_with_id: Callable[[str], Run],
    upstream: FakeUpstream,
    alice: User,
    api: ApiOf,  # noqa: F811
) -> None:
    mirror_run_with_id(id)
    client = api(alice)
    (listed,) = client.get("runs/").json()["results"]
    url = listed["mirror"]["url"]
    assert client.get(url).json()["id"] == id
    assert client.get(f"runs/{quote(id, safe='')}/").json()["id"] == id
    edited = client.patch(url, {"metadata": {"triage": "done"}})
    assert (edited.status_code, edited.json()["metadata"]["triage"]) == (200, "done")
    assert client.post(f"{url}refresh/").status_code == 200
    (edit,) = client.get(f"edits/?run={quote(id, safe='')}").json()["results"]
    assert edit["run"] == id
    assert [run["id"] for run in client.get(f"runs/?thread_id={quote(id, safe='')}").json()["results"]] == [id]
    assert client.get(f"threads/{quote(id, safe='')}/").json()["thread_id"] == id
    query = quote(str(search.equal("id", id)))
    assert [run["id"] for run in client.get(f"runs/?q={query}").json()["results"]] == [id]


@valid
def test_admin_pages_link_to_the_run(id: str, mirror_run_with_id: Callable[[str], Run], alice: User) -> None:
    run = mirror_run_with_id(id)
    client = Client()
    client.force_login(alice)
    listed = client.get("/admin/runsadmin/run/", {"q": str(search.Word(id))})
    link = re.search(rf'href="({run.pk}/change/[^"]*)"', listed.text)  # It is relative to the list.
    assert link
    assert client.get(f"/admin/runsadmin/run/{html.unescape(link[1])}").status_code == 200
    for page in ("change", "metadata"):
        assert client.get(f"/admin/runsadmin/run/{run.pk}/{page}/").status_code == 200
    thread = client.get(f"/admin/runsadmin/thread/{run.thread.pk}/change/")
    links = re.findall(r'href="(/admin/runsadmin/run/[^"]*)"', thread.text)
    assert links
    assert all(client.get(link.replace("&amp;", "&")).status_code == 200 for link in links)


@valid
def test_commands_accept_the_id(
    id: str, mirror_run_with_id: Callable[[str], Run], upstream: FakeUpstream, alice: User
) -> None:
    mirror_run_with_id(id)
    call_command("edit_metadata", "--actor", alice.username, "--set", "triage=done", "--", id)
    assert upstream.metadata(id)["triage"] == "done"


@valid
def test_bulk_edits_and_tracking_accept_the_id(id: str, mirror_run_with_id: Callable[[str], Run], alice: User) -> None:
    mirror_run_with_id(id)
    assert bulk_edits.by_ids([id]).keys
    assert threads.track(connection="default", thread_ids=[id], actor=alice).invalid == ()


@invalid
def test_invalid_id_is_reported_once(id: str, upstream: FakeUpstream, alice: User, db: None) -> None:
    good, bad = make_run(metadata={}), make_run(id=id)
    upstream.put(good)
    upstream.override(lambda request: list_response([bad, good]) if request.is_list else None)
    done = sync(Thread.objects.create(connection="default", upstream_id=good["thread_id"]))
    assert [run.upstream_id for run in Run.objects.all()] == [good["id"]]
    assert done.status == done.Status.COMPLETED_WITH_ERRORS
    assert SyncError.objects.count() == 1
    assert "id" in SyncError.objects.get().message


@invalid
def test_invalid_id_is_refused(id: str, db: None, alice: User, api: ApiOf) -> None:  # noqa: F811
    assert not is_id(id)
    assert threads.track(connection="default", thread_ids=[id], actor=alice).invalid == (id,)
    assert api(alice).post("threads/", {"thread_id": id}).status_code == 400
    if id not in ("", ".", ".."):  # No URL can have these as a part of its path.
        assert api(alice).get(f"runs/{quote(id, safe='', errors='replace')}/").status_code == 404


def test_run_with_invalid_id_is_not_edited(mirror_runs: Mirror, alice: User, api: ApiOf) -> None:  # noqa: F811
    mirror_runs(make_run(metadata={}))
    Run.objects.update(upstream_id="run\x01")
    response = api(alice).patch("runs/run%01/", {"metadata": {"a": "b"}})
    assert response.status_code == 422
    assert not Edit.objects.exists()


def test_listed_threads_with_valid_ids_are_tracked(upstream: FakeUpstream, db: None, alice: User) -> None:
    pages: dict[str, list[object]] = {
        "": ["thread 1", "\ud83d", 5, "thread/2"],
        "thread/2": ["th\0", "thread_3"],
        "thread_3": [],
    }

    def list_threads(request: Request) -> Response | None:
        if request.parts != ("threads",):
            return None
        return Response(200, {"data": [{"id": id} for id in pages[request.query.get("after", "")]]})

    upstream.override(list_threads)
    listed = threads.listed_upstream(connection="default")
    tracked = threads.track(connection="default", thread_ids=listed, actor=alice)
    assert tracked.added == ("thread 1", "thread/2", "thread_3")
    assert set(tracked.invalid) == {"\ud83d", "th\0"}


def test_plan_skips_runs_with_invalid_ids(mirror_runs: Mirror, alice: User) -> None:
    mirror_runs(make_run(metadata={}), make_run(metadata={}))
    old = Run.objects.latest("pk")
    Run.objects.filter(pk=old.pk).update(upstream_id="run\x01")  # An id that is no longer valid.
    selection = bulk_edits.by_search("status:completed")
    plan = complete_plan(
        bulk_edits.plan(
            selection=selection, patch=BulkPatch({"a": "b"}), actor=alice, source=Edit.Source.ADMIN, reason="r"
        )
    )
    plan_results = dict(plan.edits.values_list("run", "plan_result"))
    assert (plan_results.pop(old.pk), set(plan_results.values())) == (
        Edit.PlanResult.INVALID_ID,
        {Edit.PlanResult.CHANGE},
    )
