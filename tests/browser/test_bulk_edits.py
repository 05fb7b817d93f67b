"""Bulk edits in a real browser. An error in its console fails the test; see conftest.py."""

import re
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth.models import User
from django.db import connection
from playwright.sync_api import Browser, Dialog, Locator, Page, expect
from pytest_django.live_server_helper import LiveServer

from runsadmin.bulk_patch import BulkPatch
from runsadmin.models import BulkEdit, Edit, Run
from runsadmin.services import bulk_edits, edits
from tests.browser.conftest import SignIn
from tests.bulk import complete_plan
from tests.conftest import Connect
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/runsadmin/run/"


@pytest.fixture
def worker() -> Iterator[None]:
    """Pushes edits and advances bulk edits, as a worker does, while the test runs."""
    stopping = threading.Event()

    def repeat(work: Callable[[], object]) -> None:
        try:
            while not stopping.wait(0.2):
                work()
        finally:
            connection.close()

    def push() -> None:
        edits.process_due(until=time.monotonic() + 5, stopping=stopping)

    threads = [threading.Thread(target=repeat, args=[work]) for work in (push, bulk_edits.advance_statuses)]
    for thread in threads:
        thread.start()
    yield
    stopping.set()
    for thread in threads:
        thread.join()


@pytest.fixture
def runs(mirror_run: Callable[..., Run]) -> list[Run]:
    """Sixty completed runs, and two failed ones."""
    return [
        mirror_run(
            id=f"run_{n:02d}", metadata={"team": "blue", "n": str(n)}, created_at=1_700_000_000 + n,
            status="completed" if n < 60 else "failed",
        )
        for n in range(62)
    ]  # fmt: skip


def teams(sandbox: Sandbox, runs: list[Run]) -> list[str]:
    """The team of each run. Asserts that the mirror has the same metadata as the sandbox."""
    upstream = sandbox.runs()
    mirrored = {run.upstream_id: dict(run.metadata) for run in Run.objects.all()}
    assert mirrored == {run_id: run["metadata"] for run_id, run in upstream.items()}
    assert all(upstream[run.upstream_id]["metadata"]["n"] == str(n) for n, run in enumerate(runs))
    return [upstream[run.upstream_id]["metadata"]["team"] for run in runs]


def expect_settled(page: Page) -> None:
    """Waits until the page shows that no edit is in flight."""
    expect(page.locator("#live")).not_to_have_attribute("hx-get", re.compile("."))


def test_bulk_edit_from_filter_to_undo(
    page: Page, sandbox: Sandbox, runs: list[Run], alice: User, sign_in: SignIn, worker: None, connect: Connect
) -> None:
    dialogs: list[str] = []

    def record_and_dismiss(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", record_and_dismiss)
    connect(CONCURRENCY=2)
    sandbox.settings(latency_ms=400)
    blue, red = ["blue"] * 62, ["red"] * 60 + ["blue"] * 2
    sign_in(alice)
    head = page.locator(".ra-head h2")

    # Filter the list, and select all that match on both of its pages.
    page.goto(LIST)
    page.locator("select[name=status]").select_option("completed")
    expect(page.locator(".ra-across")).to_contain_text("(60)")
    page.get_by_label("All that match").check()
    expect(page.get_by_role("button", name="Refresh")).to_be_disabled()
    page.get_by_role("button", name="Edit metadata…").click()
    expect(head).to_have_text("Edit the metadata of 60 runs")
    expect(page.get_by_label("Value", exact=True)).to_have_count(1)  # The script removed the other rows.
    page.get_by_label("Key", exact=True).fill("team")
    page.get_by_label("Value", exact=True).fill("red")
    page.get_by_label("Reason").fill("moved")
    page.get_by_role("button", name="Create plan").click()

    # The plan shows the changes.
    expect(head).to_contain_text("Plan: nothing has been sent")
    expect(page.locator(".ra-changes").first).to_have_text(re.compile(r"team\s*blue\s*→\s*red"))
    page.get_by_role("link", name="Next →").click()
    expect(page.locator(".ra-edits > li")).to_have_count(10)
    assert teams(sandbox, runs) == blue
    assert sandbox.posts() == []

    # Apply it: the page updates automatically.
    page.get_by_role("button", name="Change 60 runs").click()
    expect(page.get_by_text("of 60 runs done")).to_be_visible()
    progress = page.locator("progress")
    expect(progress).not_to_have_attribute("value", "0")
    before = progress.get_attribute("value") or ""
    expect(progress).not_to_have_attribute("value", before)
    expect(head).to_contain_text("Being sent")
    expect(page.get_by_text("per second, about")).to_be_visible()

    # Pause it: nothing more is sent.
    page.get_by_role("button", name="Pause").click()
    expect(head).to_contain_text("Paused")
    expect_settled(page)
    sent = len(sandbox.posts())
    assert 0 < sent < 60
    shown = page.get_by_text(f"{sent} of 60 runs done")
    expect(shown).to_be_visible()
    assert sorted(teams(sandbox, runs)) == ["blue"] * (62 - sent) + ["red"] * sent
    time.sleep(1)
    assert len(sandbox.posts()) == sent

    # Resume it: it completes.
    sandbox.settings(latency_ms=20)
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text(f"This sends the remaining {60 - sent} edits.")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(head).to_contain_text("All edits are done")
    assert BulkEdit.objects.get().status == BulkEdit.Status.COMPLETED
    assert teams(sandbox, runs) == red
    assert len(sandbox.posts()) == 60
    page.get_by_role("link", name="60 Applied").click()
    expect(page.locator("#edits h3")).to_contain_text("applied")

    # Undo it, with a new plan.
    page.locator("summary", has_text="Undo…").click()
    page.locator("#undo").get_by_label("Reason").fill("a mistake")
    page.get_by_role("button", name="Plan the undo").click()
    expect(head).to_contain_text("Plan: nothing has been sent")
    expect(page.locator(".ra-changes").first).to_have_text(re.compile(r"team\s*red\s*→\s*blue"))
    assert teams(sandbox, runs) == red
    page.get_by_role("button", name="Change 60 runs").click()
    expect(head).to_contain_text("All edits are done")
    assert teams(sandbox, runs) == blue
    assert dialogs == []


def checkbox(page: Page, run_id: str) -> Locator:
    return page.locator(f"tr:has-text('{run_id}') input.action-select")


def test_ticks_survive_paging(page: Page, runs: list[Run], alice: User, sign_in: SignIn) -> None:
    sign_in(alice)
    page.goto(f"{LIST}?q=status:completed")
    button = page.get_by_role("button", name="Edit metadata…")
    ticked = page.locator("[data-ticked]")
    expect(button).to_be_disabled()
    checkbox(page, "run_59").press("Space")
    checkbox(page, "run_58").check()
    page.get_by_role("link", name="Older →").click()
    expect(ticked).to_have_text("2 selected, 2 not on this page")
    checkbox(page, "run_00").check()
    page.get_by_role("link", name="← Newer").click()
    expect(checkbox(page, "run_59")).to_be_checked()
    checkbox(page, "run_58").uncheck()

    page.goto(LIST)  # Each filter has its own ticks.
    expect(button).to_be_disabled()
    page.goto(f"{LIST}?q=status:completed")
    expect(ticked).to_have_text("2 selected, 1 not on this page")
    Run.objects.filter(upstream_id="run_00").update(status="failed")
    button.click()
    expect(page.get_by_text("no longer match the filters are still included: run_00")).to_be_visible()
    expect(page.locator(".ra-head h2")).to_have_text("Edit the metadata of 2 runs")
    expect(page.get_by_label("Value", exact=True)).to_have_count(1)  # The script removed the other rows.
    page.get_by_label("Key", exact=True).fill("team")
    page.get_by_label("Value", exact=True).fill("red")
    page.get_by_label("Reason").fill("moved")
    page.get_by_role("button", name="Create plan").click()
    expect(page.get_by_role("link", name="run_59")).to_be_visible()
    expect(page.get_by_role("link", name="run_00")).to_be_visible()
    expect(page.locator(".ra-edits > li")).to_have_count(2)

    page.goto(f"{LIST}?q=status:completed")
    expect(ticked).to_have_text("Nothing selected")
    page.locator("#action-toggle").check()
    expect(ticked).to_have_text("50 selected")
    page.get_by_role("button", name="Clear selection").click()
    expect(button).to_be_disabled()


def test_patch_can_be_typed_by_keyboard(page: Page, runs: list[Run], alice: User, sign_in: SignIn) -> None:
    sign_in(alice)
    draft = bulk_edits.save_draft(selection=bulk_edits.by_ids(f"run_0{n}" for n in range(10)), actor=alice)
    page.goto(f"/admin/runsadmin/bulkedit/add/?selection={draft.pk}")
    row = page.locator("[data-row]")
    page.get_by_label("Key", exact=True).focus()
    page.keyboard.type("team")
    page.keyboard.press("Enter")
    page.keyboard.type("😀" * 513)
    expect(row.first.locator("[data-count]")).to_have_text("4/64 · 513/512")
    expect(row.first.locator("[data-count]")).to_have_class(re.compile("ra-too-long"))
    page.keyboard.press("Enter")
    page.keyboard.type("n")
    row.nth(1).locator("select").select_option("remove")
    expect(row.nth(1).locator("textarea")).to_be_hidden()
    page.get_by_role("button", name="Add a row").click()
    page.keyboard.type("note")
    row.nth(2).locator("select").select_option("empty")
    page.keyboard.press("Control+Enter")

    expect(page.get_by_role("alert")).to_have_count(2)
    expect(row.first).to_contain_text("at most 512")
    expect(page.get_by_text("a bulk edit needs a reason")).to_be_visible()
    expect(row.first.locator("textarea")).to_have_value("😀" * 513)
    expect(row.nth(1).locator("select")).to_have_value("remove")
    row.first.locator("textarea").fill("{status}")
    page.get_by_label("Reason").fill("moved")
    page.keyboard.press("Control+Enter")

    expect(page.locator(".ra-head h2")).to_contain_text("Plan")
    changes = page.locator(".ra-changes").first.locator("dd")
    expect(changes).to_have_text(["blue → completed", "9 → removed", "absent → empty text"])


def test_bulk_edit_works_without_scripts(
    page: Page,
    browser: Browser,
    live_server: LiveServer,
    sandbox: Sandbox,
    runs: list[Run],
    alice: User,
    sign_in: SignIn,
    worker: None,
) -> None:
    sign_in(alice)
    context = browser.new_context(java_script_enabled=False, base_url=live_server.url)
    context.add_cookies(page.context.cookies())  # type: ignore[arg-type]  # Two types of the same shape.
    page = context.new_page()
    page.goto(LIST)
    checkbox(page, "run_61").check()
    checkbox(page, "run_59").check()
    page.get_by_role("button", name="Edit metadata…").click()
    page.locator("[name$=-key]").nth(1).fill("team")
    page.locator("[name$=-value]").nth(1).fill("red")
    page.get_by_label("Reason").fill("moved")
    page.get_by_role("button", name="Create plan").click()
    page.get_by_role("button", name="Change 2 runs").click()

    expect(page.locator(".ra-head h2")).to_contain_text("All edits are done")
    assert [n for n, color in enumerate(teams(sandbox, runs)) if color == "red"] == [59, 61]
    page.locator("summary", has_text="Undo…").click()
    page.locator("#undo").get_by_label("Reason").fill("a mistake")
    page.get_by_role("button", name="Plan the undo").click()
    page.get_by_role("button", name="Change 2 runs").click()
    expect(page.locator(".ra-head h2")).to_contain_text("All edits are done")
    assert set(teams(sandbox, runs)) == {"blue"}
    page.goto(f"{LIST}?q=status:failed")
    page.get_by_label("All that match").check()
    page.get_by_role("button", name="Edit metadata…").click()
    expect(page.locator(".ra-head h2")).to_have_text("Edit the metadata of 2 runs")
    context.close()


def test_plan_updates_without_reload(page: Page, runs: list[Run], alice: User, sign_in: SignIn) -> None:
    selection = bulk_edits.by_search("status:completed")
    patch = BulkPatch({"team": "red"})
    bulk_edit = bulk_edits.plan(selection=selection, patch=patch, actor=alice, source=Edit.Source.ADMIN, reason="moved")
    sign_in(alice)
    page.goto(f"/admin/runsadmin/bulkedit/{bulk_edit.pk}/change/")
    expect(page.get_by_text("0 of 60 runs")).to_be_visible()

    complete_plan(bulk_edit)

    expect(page.get_by_role("button", name="Change 60 runs")).to_be_visible()


def test_polling_page_redirects_to_sign_in(page: Page, runs: list[Run], alice: User, sign_in: SignIn) -> None:
    selection = bulk_edits.by_search("status:completed")
    bulk_edit = bulk_edits.plan(
        selection=selection, patch=BulkPatch({"team": "red"}), actor=alice, source=Edit.Source.ADMIN, reason="moved"
    )
    url = f"/admin/runsadmin/bulkedit/{bulk_edit.pk}/change/"
    sign_in(alice)
    page.goto(url)
    expect(page.get_by_text("0 of 60 runs")).to_be_visible()

    page.context.clear_cookies()

    expect(page).to_have_url(re.compile(r"/admin/login/\?next=" + url))
    expect(page.locator("[name=password]")).to_be_visible()
