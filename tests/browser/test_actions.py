"""Every action of every list in a real browser. A test fails if it does not run all actions of its list."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Model
from django.utils import timezone
from playwright.sync_api import Page, expect

from runsadmin.metadata import MetadataPatch
from runsadmin.models import BulkEdit, Edit, EditStatus, Run, Sync, SyncStatus, Thread
from runsadmin.services import edits, syncs
from runsadmin.templatetags.links import list_url
from tests.browser.conftest import SignIn
from tests.bulk import make_bulk_edit, push_until_settled
from tests.conftest import MakeRun
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)


class ActionList:
    """The list of a model, and the actions that the test has run on it."""

    def __init__(self, page: Page, model: type[Model]) -> None:
        self.page, self.model = page, model
        self.used: set[str] = set()
        registered: Any = admin.site._registry[model]
        self.offered = {getattr(type(registered), name).short_description for name in registered.actions}

    def run(self, action: str, *rows: Model) -> None:
        """Ticks the rows and clicks the button of the action."""
        is_list = self.page.url.endswith(list_url(self.model)) and self.page.locator("[data-actions]").count()
        if not is_list:  # The page that follows an action may have the same URL.
            self.page.goto(list_url(self.model))
        for row in rows:
            self.page.locator(f"input.action-select[value='{row.pk}']").check()
        self.page.locator("[data-actions]").get_by_role("button", name=action, exact=True).click()
        self.used.add(action)

    def confirm(self, heading: str, *, reason: str = "") -> None:
        expect(self.page.get_by_role("heading", name=heading)).to_be_visible()
        if reason:
            self.page.get_by_label("Reason").fill(reason)
        self.page.locator(".ra-confirm-page .ra-primary").click()

    def expect_message(self, message: str) -> None:
        expect(self.page.get_by_text(message)).to_be_visible()


type ActionsOf = Callable[[type[Model]], ActionList]


@pytest.fixture
def actions_of(page: Page, alice: User, sign_in: SignIn) -> ActionsOf:
    def actions_of(model: type[Model]) -> ActionList:
        sign_in(alice)
        return ActionList(page, model)

    return actions_of


def statuses(model: type[Edit | BulkEdit | Sync], *rows: Model) -> list[str]:
    found = model._default_manager.in_bulk([row.pk for row in rows])
    return [found[row.pk].status for row in rows]


def test_actions_work_on_runs(page: Page, mirror_run: MakeRun, actions_of: ActionsOf) -> None:
    one, two = mirror_run(metadata={"team": "blue"}), mirror_run()
    actions = actions_of(Run)
    actions.run("Refresh", one, two)
    actions.expect_message("2 runs will be refreshed")
    assert Run.objects.exclude(needs_refresh_since=None).count() == 2
    actions.run("Export…", one)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    page.get_by_role("link", name="Back").click()
    lines = download.value.path().read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ['"id"', f'"{one.upstream_id}"']
    actions.run("Edit metadata…", one)
    expect(page.locator("[data-pairs] [name$=-key]").first).to_have_value("team")
    actions.run("Edit metadata…", one, two)
    expect(page.locator(".ra-head h2")).to_have_text("Edit the metadata of 2 runs")
    assert actions.used == actions.offered


def test_actions_work_on_edits(
    page: Page, sandbox: Sandbox, mirror_run: MakeRun, alice: User, actions_of: ActionsOf
) -> None:
    one, two = (
        edits.record(
            run=mirror_run(metadata={"team": "blue"}), patch=MetadataPatch({"team": "red"}), actor=alice,
            source=Edit.Source.ADMIN,
        )
        for _ in range(2)
    )  # fmt: skip
    actions = actions_of(Edit)
    actions.run("Cancel", one, two)
    actions.expect_message("Cancelled 2 edits.")
    assert statuses(Edit, one, two) == ["cancelled", "cancelled"]

    Edit.objects.update(status=EditStatus.FAILED)
    actions.run("Retry", one, two)
    actions.confirm("Retry 2 edits?")
    actions.expect_message("Retrying 2 edits.")
    assert statuses(Edit, one, two) == ["pending", "pending"]

    Edit.objects.update(restored_from=timezone.now())
    actions.run("Release", one, two)
    actions.confirm("Release 2 edits?")
    actions.expect_message("Released 2 edits.")
    assert not Edit.objects.exclude(restored_from=None).exists()

    edits.push(one)
    edits.push(two)
    actions.run("Undo", one, two)
    actions.confirm("Undo 2 edits?", reason="a mistake")
    actions.expect_message("Undo recorded for 2 edits.")
    assert set(Edit.objects.exclude(undoes=None).values_list("undoes", "reason")) == {
        (one.pk, "a mistake"), (two.pk, "a mistake"),
    }  # fmt: skip

    # A single undo is sent at once, and the page of its edit shows the outcome.
    undo = Edit.objects.get(undoes=one)
    edits.push(undo)
    actions.run("Undo", undo)
    actions.confirm(f"Undo edit {undo.pk}?")
    expect(page.locator(".ra-head h2")).to_contain_text("Applied")
    assert sandbox.metadata(one.run.upstream_id) == {"team": "red"}
    actions.run("Retry", one)
    actions.confirm(f"Retry edit {one.pk}?")
    actions.expect_message("Only a failed edit can be")
    assert actions.used == actions.offered


def test_actions_work_on_bulk_edits(
    page: Page, sandbox: Sandbox, mirror_run: MakeRun, alice: User, actions_of: ActionsOf
) -> None:
    plans = [make_bulk_edit(mirror_run(metadata={"team": "blue"}).upstream_id, "planned", alice) for _ in range(2)]
    actions = actions_of(BulkEdit)
    actions.run("Apply", *plans)
    actions.expect_message("This changes the metadata of 2 runs upstream.")
    assert statuses(BulkEdit, *plans) == ["planned", "planned"]
    actions.confirm("Apply 2 bulk edits?")
    actions.expect_message("Done for 2 bulk edits.")
    assert statuses(BulkEdit, *plans) == ["queued", "queued"]

    actions.run("Pause", *plans)
    actions.expect_message("Done for 2 bulk edits.")
    assert statuses(BulkEdit, *plans) == ["paused", "paused"]

    actions.run("Resume", plans[0])
    actions.expect_message("This sends the remaining 1 edit.")
    actions.confirm(f"Resume {plans[0]}?")
    expect(page.locator("tr", has_text="Queued")).to_have_count(1)
    assert statuses(BulkEdit, *plans) == ["queued", "paused"]

    actions.run("Cancel", plans[1])
    actions.confirm(f"Cancel {plans[1]}?")
    expect(page.locator("tr", has_text="Cancelled")).to_have_count(1)
    assert statuses(BulkEdit, *plans) == ["queued", "cancelled"]
    assert sandbox.posts() == []

    run = mirror_run(metadata={"team": "blue"})
    done = make_bulk_edit(run.upstream_id, "completed", alice)
    actions.run("Retry", done)
    actions.expect_message("This sends 1 edit again.")
    actions.confirm(f"Retry {done}?")
    expect(page.locator("tr", has_text="Queued")).to_have_count(2)
    push_until_settled(done)
    assert sandbox.metadata(run.upstream_id) == {"team": "red"}

    actions.run("Undo", done)
    actions.confirm(f"Undo {done}?", reason="a mistake")
    expect(page.locator(".ra-head h2")).to_contain_text("Plan")
    assert done.undone_by.get().reason == "a mistake"
    assert actions.used == actions.offered


def test_actions_work_on_threads(page: Page, mirror_run: MakeRun, actions_of: ActionsOf) -> None:
    one, two = mirror_run(thread_id="thread_1").thread, mirror_run(thread_id="thread_2").thread
    actions = actions_of(Thread)
    actions.run("Stop tracking", one, two)
    actions.confirm("Stop tracking 2 threads?")
    actions.expect_message("Stopped tracking 2 threads.")
    assert not Thread.objects.filter(tracked=True).exists()
    actions.run("Track again", one, two)
    actions.expect_message("Tracking 2 threads again.")
    assert Thread.objects.filter(tracked=True).count() == 2

    actions.run("Sync new runs", one)
    expect(page.locator(".ra-head h2")).to_contain_text("Incremental sync of thread_1")
    actions.run("Full sync", one, two)
    actions.expect_message("Queued 2 syncs")
    started = Sync.objects.order_by("pk").values_list("thread__upstream_id", "kind")
    assert sorted(started) == [("thread_1", "full"), ("thread_1", "incremental"), ("thread_2", "full")]
    assert actions.used == actions.offered


def test_actions_work_on_syncs(page: Page, mirror_run: MakeRun, alice: User, actions_of: ActionsOf) -> None:
    thread = mirror_run().thread
    started = [
        syncs.start(connection="default", kind=kind, actor=alice, thread=thread)
        for kind in (Sync.Kind.FULL, Sync.Kind.INCREMENTAL)
    ]
    Sync.objects.update(status=SyncStatus.RUNNING)
    actions = actions_of(Sync)
    for action, status in (("Pause", "paused"), ("Resume", "running"), ("Cancel", "cancelled")):
        actions.run(action, *started)
        expect(page.locator(f".field-status:has-text('{status.capitalize()}')")).to_have_count(2)
        assert statuses(Sync, *started) == [status, status]
    assert actions.used == actions.offered
