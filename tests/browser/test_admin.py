"""The admin in a real browser. An error in its console fails the test; see conftest.py."""

import re
import time
from typing import Literal
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Dialog, Locator, Page, expect
from pytest_django.live_server_helper import LiveServer

from runsadmin.bulk_patch import BulkPatch
from runsadmin.metadata import Metadata, MetadataPatch
from runsadmin.models import BulkEdit, Edit, Run, SavedView, Sync
from runsadmin.search import Field
from runsadmin.services import bulk_edits, connections, edits, syncs, views
from tests.browser.conftest import SignIn
from tests.bulk import complete_plan, push_until_settled
from tests.conftest import MakeRun
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)

HOSTILE = {
    "<script>alert(1)</script>": "<img src=x onerror=alert(2)>",
    "quote\"'": "</textarea><script>alert(3)</script>",
    "rtl": "\u202eevil \u05e9\u05dc\u05d5\u05dd",
    "emoji": "👩‍👩‍👧‍👦" * 20,
    "long": "x" * 512,
    "brackets": "{{ 7*7 }} {% now %} ${7*7}",
    "x-data": "{ a: alert(4) }",
}


def run_url(run: Run, name: str = "change") -> str:
    return f"/admin/runsadmin/run/{run.pk}/{name}/"


@pytest.fixture
def run(mirror_run: MakeRun) -> Run:
    return mirror_run(metadata={"team": "blue", "env": "dev"})


def row(page: Page, key: str) -> Locator:
    return page.locator(f'[data-row]:has(input[name$=-key][value="{key}"])')


def change(page: Page, key: str, value: str) -> None:
    row(page, key).locator("[name$=-value]").fill(value)


def test_user_signs_in_and_edits_a_run(page: Page, sandbox: Sandbox, run: Run, alice: User) -> None:
    page.goto("/admin/")
    page.fill("[name=username]", "alice")
    page.fill("[name=password]", "alice")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("link", name="Runs", exact=True).first.click()
    page.get_by_role("link", name=run.upstream_id).click()
    page.get_by_role("button", name="Edit metadata…").click()
    change(page, "team", "red")
    page.get_by_label("Reason").fill("moved")
    page.get_by_role("button", name="Send to upstream").click()

    expect(page.locator(".ra-head h2")).to_contain_text("Applied")
    expect(page.locator(".ra-diff").last).to_contain_text("blue")
    assert sandbox.metadata(run.upstream_id) == {"team": "red", "env": "dev"}
    assert Run.objects.get().metadata == {"team": "red", "env": "dev"}
    expect(page.get_by_text(Edit.objects.get().upstream_request_id)).to_be_visible()


def _press_tab_until_focused(page: Page, target: Locator) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if target.evaluate("element => element === document.activeElement"):
            return
    pytest.fail(f"Tab does not reach {target}")


@pytest.mark.parametrize("width", [390, 1440])
def test_user_signs_out_by_keyboard(width: int, page: Page, alice: User, sign_in: SignIn) -> None:
    sign_in(alice)
    page.set_viewport_size({"width": width, "height": 800})
    page.goto("/admin/")
    if width == 390:
        menu = page.get_by_role("button", name="Menu", exact=True)
        _press_tab_until_focused(page, menu)
        page.keyboard.press("Enter")
        close = page.get_by_role("button", name="Close the menu")
        expect(close).to_be_focused()
        page.keyboard.press("Enter")
        expect(menu).to_be_focused()
        expect(menu).to_have_attribute("aria-expanded", "false")
        page.keyboard.press("Enter")
        expect(close).to_be_focused()
    account = page.get_by_role("button", name="Account")
    _press_tab_until_focused(page, account)
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Change password")).to_be_visible()
    expect(account).to_have_attribute("aria-expanded", "true")
    _press_tab_until_focused(page, page.get_by_role("button", name="Dark"))
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_class(re.compile("dark"))
    page.keyboard.press("Escape")
    expect(account).to_be_focused()
    expect(account).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("Enter")
    _press_tab_until_focused(page, page.get_by_role("button", name="Log out"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/admin/logout/")


def test_pair_editor_works_by_keyboard(page: Page, sandbox: Sandbox, run: Run, alice: User, sign_in: SignIn) -> None:
    sign_in(alice)
    page.goto(run_url(run, "metadata"))
    row(page, "env").locator("[name$=-value]").press("Enter")
    page.keyboard.type("ticket")
    page.keyboard.press("Enter")
    page.keyboard.type("OPS-1")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    row(page, "team").get_by_role("button", name="Remove").click()
    page.keyboard.press("Control+Enter")

    expect(page.locator(".ra-head h2")).to_contain_text("Applied")
    assert sandbox.metadata(run.upstream_id) == {"env": "dev", "ticket": "OPS-1\nsecond line"}


def test_counters_count_characters(page: Page, run: Run, alice: User, sign_in: SignIn) -> None:
    sign_in(alice)
    page.goto(run_url(run, "metadata"))
    counter = row(page, "team").locator("[data-count]")
    change(page, "team", "😀" * 512)
    expect(counter).to_have_text("4/64 · 512/512")
    expect(counter).not_to_have_class(re.compile("ra-too-long"))
    change(page, "team", "😀" * 513)
    expect(counter).to_have_class(re.compile("ra-too-long"))
    expect(page.locator("[data-pair-count]")).to_have_text("2 of 16 pairs")

    page.get_by_role("button", name="Send to upstream").click()
    expect(page.get_by_role("alert")).to_contain_text("at most 512")
    expect(row(page, "team").locator("[name$=-value]")).to_have_value("😀" * 513)
    assert not Edit.objects.exists()


def test_pair_editor_works_without_scripts(
    page: Page, browser: Browser, live_server: LiveServer, sandbox: Sandbox, run: Run, alice: User, sign_in: SignIn
) -> None:
    sign_in(alice)
    context = browser.new_context(java_script_enabled=False, base_url=live_server.url)
    context.add_cookies(page.context.cookies())  # type: ignore[arg-type]  # Two types of the same shape.
    page = context.new_page()
    page.goto(run_url(run, "metadata"))
    keys, values = page.locator("[name$=-key]"), page.locator("[name$=-value]")
    values.nth(0).fill("red")
    keys.nth(1).fill("")
    values.nth(1).fill("")
    keys.nth(2).fill("new")
    values.nth(2).fill("1")
    page.get_by_role("button", name="Send to upstream").click()

    expect(page.locator(".ra-head h2")).to_contain_text("Applied")
    assert sandbox.metadata(run.upstream_id) == {"team": "red", "new": "1"}
    context.close()


def test_conflict_is_resolved(page: Page, sandbox: Sandbox, run: Run, alice: User, sign_in: SignIn) -> None:
    sign_in(alice)
    page.goto(run_url(run, "metadata"))
    sandbox.set_metadata(run.upstream_id, {"team": "green", "env": "dev"})
    change(page, "team", "red")
    change(page, "env", "prod")
    page.get_by_role("button", name="Send to upstream").click()

    expect(page.locator(".ra-head h2")).to_contain_text("Conflict: nothing was sent")
    form = page.locator("#decide")
    for value in ("blue", "green", "red"):
        expect(form).to_contain_text(value)
    form.get_by_label("Mine").check()
    page.get_by_role("button", name="Send").click()

    expect(page.locator(".ra-head h2")).to_contain_text("Applied")
    assert sandbox.metadata(run.upstream_id) == {"team": "red", "env": "prod"}


def test_edit_page_polls_until_the_end(page: Page, sandbox: Sandbox, run: Run, alice: User, sign_in: SignIn) -> None:
    sandbox.fault("lose", method="POST")
    sign_in(alice)
    page.goto(run_url(run, "metadata"))
    change(page, "team", "red")
    page.get_by_role("button", name="Send to upstream").click()
    expect(page.locator(".ra-head h2")).to_contain_text("Outcome unknown")

    edits.reconcile(Edit.objects.get())

    expect(page.locator(".ra-head h2")).to_contain_text("Applied")


def test_sync_progress_updates_without_reload(page: Page, run: Run, alice: User, sign_in: SignIn) -> None:
    sign_in(alice)
    page.goto(f"/admin/runsadmin/thread/{run.thread_id}/change/")
    page.get_by_role("button", name="Full sync").click()
    expect(page.locator(".ra-head h2")).to_contain_text("Queued")

    syncs.run(Sync.objects.get(), until=time.monotonic() + 10)

    expect(page.locator(".ra-head h2")).to_contain_text("Completed")
    expect(page.locator(".ra-tiles")).to_contain_text("1 runs seen")


def test_filter_applies_when_chosen(page: Page, run: Run, mirror_run: MakeRun, alice: User, sign_in: SignIn) -> None:
    failed = mirror_run(status="failed")
    sign_in(alice)
    page.goto("/admin/runsadmin/run/")
    page.locator("select[name=status]").select_option("failed")

    expect(page.get_by_role("link", name=failed.upstream_id)).to_be_visible()
    expect(page.get_by_role("link", name=run.upstream_id)).to_have_count(0)
    assert page.url.endswith("?q=status%3Afailed")


def test_global_search_opens_a_run(page: Page, run: Run, alice: User, sign_in: SignIn) -> None:
    sign_in(alice)
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto("/admin/")
    page.get_by_role("button", name="Search runs, find an id").click()
    box = page.locator("#search-input-command")
    expect(box).to_be_focused()  # Letters typed before it has the focus are lost.
    box.press_sequentially(run.upstream_id)
    page.locator("#command-results").get_by_role("link", name="Run, completed").click()

    page.wait_for_url(f"**{run_url(run)}")


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_hostile_metadata_is_harmless(
    page: Page, mirror_run: MakeRun, sign_in: SignIn, width: int, scheme: Literal["light", "dark"]
) -> None:
    run = mirror_run(metadata=HOSTILE, instructions="<script>alert(5)</script>" * 50, odd={"deep": [{"x" * 300: None}]})
    admin = User.objects.create_superuser("admin", password="admin")
    alerts = []

    def record_and_dismiss(dialog: Dialog) -> None:
        alerts.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", record_and_dismiss)
    sign_in(admin)
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    edit = edits.push(_record_hostile_edit(run, admin))
    selection = bulk_edits.by_search(f"id:{run.upstream_id}")
    draft = bulk_edits.save_draft(selection=selection, actor=admin)
    sync = syncs.start(connection="default", kind=Sync.Kind.FULL, actor=admin)
    syncs.run(sync, until=time.monotonic() + 10)
    bulk_edit, undo = _make_hostile_bulk_edit(run, admin)
    columns = ",".join(["id", "error", *(str(Field("metadata", key)) for key in HOSTILE)])
    view = views.save(view=SavedView(name="<script>alert(11)</script>" * 3, columns=columns), actor=admin)
    connections.hold("default", connections.Hold.CREDENTIALS, "<b>401</b>")

    for url in (
        "/admin/", "/admin/runsadmin/run/", f"/admin/runsadmin/run/?view={view.slug}",
        f"/admin/runsadmin/run/?{urlencode({'columns': columns})}", "/admin/runsadmin/savedview/",
        f"/admin/runsadmin/savedview/{view.pk}/change/", run_url(run), run_url(run, "metadata"),
        "/admin/runsadmin/edit/",
        f"/admin/runsadmin/edit/{edit.pk}/change/", "/admin/runsadmin/bulkedit/",
        f"/admin/runsadmin/bulkedit/add/?selection={draft.pk}",
        f"/admin/runsadmin/bulkedit/{bulk_edit.pk}/change/", f"/admin/runsadmin/bulkedit/{undo.pk}/change/",
        "/admin/runsadmin/thread/", "/admin/runsadmin/thread/add/",
        f"/admin/runsadmin/thread/{run.thread_id}/change/", "/admin/runsadmin/sync/",
        f"/admin/runsadmin/sync/{sync.pk}/change/", "/admin/runsadmin/connectionstate/", "/admin/auth/user/",
        f"/admin/auth/user/{admin.pk}/change/", "/admin/auth/user/add/", "/admin/auth/group/", "/admin/auth/group/add/",
        "/admin/knox/authtoken/", "/admin/password_change/", "/admin/runsadmin/", "/api/v1/docs/",
    ):  # fmt: skip
        response = page.goto(url)
        assert response, url
        assert response.status == 200, url
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{url} is wider than the window"
        if url.endswith(f"/user/{admin.pk}/change/"):
            expect(page.get_by_role("link", name="Reset password")).to_be_in_viewport(ratio=1)
    assert alerts == []


def _make_hostile_bulk_edit(run: Run, actor: User) -> tuple[BulkEdit, BulkEdit]:
    """A completed bulk edit, and the plan of its undo."""
    patch = BulkPatch(
        {"long": "{model}" * 70, "<script>alert(7)</script>": "</bdi><script>alert(8)</script>"},
        ["rtl"], {"emoji": "<img src=x onerror=alert(9)>"},
    )  # fmt: skip
    ids = [run.upstream_id, "<script>alert(10)</script>", "x" * 400]
    bulk_edit = bulk_edits.plan(
        selection=bulk_edits.by_ids(ids), patch=patch, actor=actor, source=Edit.Source.ADMIN, reason="<i>" * 100
    )
    push_until_settled(bulk_edits.apply(bulk_edit=complete_plan(bulk_edit), actor=actor))
    assert bulk_edit.edits.get().status == Edit.Status.APPLIED
    return bulk_edit, complete_plan(
        bulk_edits.plan_undo(bulk_edit=bulk_edit, actor=actor, source=Edit.Source.ADMIN, reason="<i>")
    )


def _record_hostile_edit(run: Run, actor: User) -> Edit:
    patch = MetadataPatch.parse({"long": "y" * 512, "<b>": "</td><script>alert(6)</script>"})
    return edits.record(
        run=run, patch=patch, actor=actor, source=Edit.Source.ADMIN, base=Metadata(HOSTILE), reason="<i>"
    )
