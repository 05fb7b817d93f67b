"""The list of runs in a real browser: through a search and back, saved views, columns and ticks."""

import re

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from runsadmin.models import Export, Run, SavedView
from tests.admin.test_run_list import LIST, make_runs  # noqa: F401 - a fixture
from tests.browser.conftest import SignIn
from tests.conftest import MakeRun
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def listed(make_runs: MakeRun, sandbox: Sandbox, alice: User, sign_in: SignIn) -> None:  # noqa: F811
    """120 runs of team blue, on three pages. Upstream has only the first one."""
    make_runs(120, metadata={"team": "blue"}, status="completed")
    for run in Run.objects.prefetch_related("pairs"):  # `make_runs` copies rows of runs without their pairs.
        if not run.pairs.all():
            run.pairs.create(key="team", value="blue", created_at=run.created_at)
    sign_in(alice)


def test_user_returns_to_the_same_place(page: Page, listed: None, mirror_run: MakeRun) -> None:
    times = dict(Run.objects.values_list("upstream_id", "created_at"))
    for run_id in ("run_051", "run_052"):  # Upstream has these too.
        Run.objects.filter(upstream_id=run_id).delete()
        mirror_run(id=run_id, created_at=int(times[run_id].timestamp()), metadata={"team": "blue"})
    page.goto(f"{LIST}?q=status:completed")
    page.get_by_role("link", name="Older").click()
    expect(page.locator("#result_list")).to_contain_text("run_050")
    rows = page.locator("#result_list tr.data-row")
    before = rows.locator("td >> nth=1").all_inner_texts()
    page.get_by_role("link", name="run_051").click()
    expect(page.locator(".ra-head h2")).to_contain_text("run_051")
    page.keyboard.press("j")
    expect(page.locator(".ra-head h2")).to_contain_text("run_052")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".ra-head h2")).to_contain_text("run_051")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".ra-head h2")).to_contain_text("run_052")

    page.get_by_role("button", name="Edit metadata…").click()
    value = page.locator("[name$=-value]").first
    value.fill("red")
    value.press("End")
    page.keyboard.type("j")  # No shortcut while typing.
    page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name="Send to upstream").click()
    expect(page.locator(".ra-head h2")).to_contain_text("Applied")
    page.get_by_role("link", name="Show the run").click()
    expect(page.locator("#metadata")).to_contain_text("redj")
    page.get_by_role("link", name="Back to the list").click()

    row = page.locator("#result_list tr:target")
    expect(row).to_contain_text("run_052")
    expect(row).to_be_in_viewport()
    expect(row.get_by_role("link", name="run_052")).to_be_focused()
    assert rows.locator("td >> nth=1").all_inner_texts() == before
    page.reload()
    expect(row).to_contain_text("run_052")


def test_ticks_survive_paging_and_name_runs_that_left(page: Page, listed: None) -> None:
    page.goto(f"{LIST}?q=status:completed")
    for run_id in ("run_000", "run_001"):
        page.locator("tr.data-row", has_text=run_id).get_by_role("checkbox").check()
    Run.objects.filter(upstream_id="run_001").update(status="failed")
    page.get_by_role("link", name="Older").click()
    bar = page.locator("[data-actions]")
    expect(bar).to_contain_text("2 selected, 2 not on this page")
    expect(bar.get_by_role("status")).to_have_text("No longer in this list: run_001.")
    page.get_by_text("Columns", exact=True).click()
    page.get_by_role("button", name="Remove Model").click()
    expect(bar).to_contain_text("2 selected, 1 not on this page")  # Removing a column returns to the first page.
    bar.get_by_role("button", name="Deselect them").click()
    expect(bar).to_contain_text("1 selected")
    expect(bar.get_by_role("status")).to_have_text("")


def test_view_is_saved_changed_and_reset(page: Page, listed: None) -> None:
    page.goto(f"{LIST}?q=status:completed")
    page.get_by_role("link", name="Save as a view…").click()
    expect(page.get_by_role("heading", name="Save as a view")).to_be_visible()
    page.get_by_role("link", name="Cancel").click()
    expect(page.locator("[data-search] [name=q]")).to_have_value("status:completed")
    page.get_by_role("link", name="Save as a view…").click()
    expect(page.get_by_label("Name")).to_be_focused()
    page.get_by_label("Name").fill("Done")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".ra-list-tools")).to_contain_text("View: Done")
    page.goto(f"{LIST}?view=done")
    expect(page.locator(".ra-list-tools")).not_to_contain_text("Differs")

    page.locator("[data-search] [name=q]").fill("status:failed")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text("Differs from the saved view")
    page.get_by_role("link", name="Reset").click()
    expect(page.locator(".ra-list-tools")).not_to_contain_text("Differs")
    page.get_by_text("Columns", exact=True).click()
    page.get_by_role("button", name="Error", exact=True).click()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".ra-list-tools")).not_to_contain_text("Differs")
    assert SavedView.objects.get().columns.endswith(",error")
    expect(page.locator("thead")).to_contain_text("Error")


def test_columns_and_time_zone_need_no_script(
    page: Page, browser: Browser, live_server: LiveServer, listed: None
) -> None:
    context = browser.new_context(java_script_enabled=False, base_url=live_server.url)
    context.add_cookies(page.context.cookies())  # type: ignore[arg-type]  # Two types of the same shape.
    page = context.new_page()
    page.goto(LIST)
    page.locator("summary", has_text="Columns").press("Enter")  # By keyboard.
    page.get_by_role("button", name="Move Run down").press("Enter")
    expect(page.locator("thead th").nth(1)).to_have_text(re.compile("Status"))
    page.locator("summary", has_text="Columns").press("Enter")
    page.get_by_label("As a list").fill("id,metadata.team")
    page.get_by_label("As a list").press("Enter")
    expect(page.locator("thead th").nth(2)).to_have_text(re.compile("team"))
    page.locator("summary", has_text="Time zone").press("Enter")
    page.locator("[name=tz]:not([type=hidden])").fill("Asia/Tokyo")
    page.keyboard.press("Enter")
    expect(page.locator("summary", has_text="Time zone")).to_have_text("Time zone: Asia/Tokyo")
    page.goto(LIST)
    expect(page.locator("summary", has_text="Time zone")).to_have_text("Time zone: Asia/Tokyo")


def test_phone_labels_sorts_and_selects(page: Page, listed: None) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"{LIST}?columns=id,tokens,metadata.team")
    label = "td => getComputedStyle(td, '::before').content"
    assert page.locator("td.field-tokens").first.evaluate(label) == '"Tokens "'
    assert page.locator("td.field-value").first.evaluate(label) == '"team "'
    page.locator("#action-toggle").check()
    expect(page.locator("[data-ticked]")).to_have_text("50 selected")
    page.locator("[data-across]").check()
    expect(page.locator("[data-ticked]")).to_have_text("All that match are selected")
    page.locator("thead").get_by_role("link", name="Tokens").click()
    expect(page.locator(".ra-pages")).to_contain_text("tokens")


@pytest.mark.parametrize("width", [390, 1110, 1440])
def test_list_and_views_fit_the_window(width: int, page: Page, listed: None, alice: User) -> None:
    name, key = "<b>long</b>" * 9, "k" * 64
    SavedView.objects.create(owner=alice, name=name, slug="long", query="status:completed " + "-metadata.x:y " * 50)
    run = Run.objects.get(upstream_id="run_000")
    run.pairs.create(key=key, value="v" * 512, created_at=timezone.now())
    page.set_viewport_size({"width": width, "height": 800})

    def assert_page_fits(what: str) -> None:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (page.url, what)

    for url in (f"{LIST}?view=long", f"{LIST}?view=long&q=&columns=id,metadata.{key},error"):
        page.goto(url)
        popups = page.locator(".ra-popup > summary:visible").all()
        assert popups
        for popup in popups:
            popup.click()
            assert_page_fits(popup.inner_text())
            popup.click()
    Run.objects.filter(pk=run.pk).update(status="failed", error_code="e" * 128)
    export = Export.objects.create(actor=alice, source="admin", format="csv", query="metadata.x:" + "y" * 400)
    for url in (
        "/admin/",
        "/admin/runsadmin/savedview/",
        f"{LIST}{run.pk}/change/",
        f"/admin/runsadmin/export/add/?q=metadata.x:{'y' * 400}",
        f"/admin/runsadmin/export/{export.pk}/change/",
    ):
        page.goto(url)
        assert_page_fits("")
