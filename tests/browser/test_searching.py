"""Searching in the run list with a real browser: suggestions, facets, links to values, and the palette."""

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import SignIn
from tests.conftest import MakeRun

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/runsadmin/run/"
HOSTILE = '<img src=x onerror=alert(1)> "quoted" \\'


@pytest.fixture(autouse=True)
def runs(mirror_run: MakeRun, sign_in: SignIn, carol: User) -> None:
    error = {"code": "rate_limit_exceeded", "message": ""}
    for number in range(3):
        mirror_run(id=f"run_failed_{number}", status="failed", last_error=error, metadata={"team": "billing"})
    mirror_run(id="run_other", metadata={"team": "Search", "cost center": HOSTILE})
    sign_in(carol)


def option(page: Page, text: str = "") -> Locator:
    """The suggestions that contain this text."""
    return page.locator("#suggestions li", has_text=text)


def expect_search(page: Page, text: str, count: int) -> None:
    expect(page.get_by_role("combobox", name="Search")).to_have_value(text)
    expect(page.locator("tr.data-row")).to_have_count(count)


def test_search_is_completed_by_keyboard(page: Page) -> None:
    page.goto(LIST)
    page.keyboard.press("/")
    page.keyboard.type("stat")
    expect(option(page, "status:")).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(option(page, "failed")).to_be_visible()
    page.keyboard.type("fa")
    expect(option(page)).to_have_count(1)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.type("metadata.tea")
    expect(option(page)).to_have_count(1)
    expect(option(page, "metadata.team:")).to_contain_text("4")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(option(page, "billing")).to_contain_text("3")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("combobox", name="Search")).to_have_value("status:failed metadata.team:billing ")
    page.keyboard.press("Escape")
    expect(option(page)).to_have_count(0)
    page.keyboard.press("Enter")

    expect_search(page, "status:failed metadata.team:billing", 3)
    assert page.url.endswith("?q=status%3Afailed+metadata.team%3Abilling")


def test_enter_after_typing_ignores_suggestions(page: Page) -> None:
    page.goto(LIST)
    page.get_by_role("combobox", name="Search").click()
    expect(option(page, "status:")).to_be_visible()
    page.keyboard.type("run_other")
    expect(option(page, "id:run_other")).to_be_visible()
    page.keyboard.press("Enter")

    expect_search(page, "run_other", 1)


def test_suggestion_for_earlier_text_is_not_inserted(page: Page) -> None:
    page.goto(LIST)
    box = page.get_by_role("combobox", name="Search")
    box.click()
    page.keyboard.type("stat")
    expect(option(page, "status:")).to_be_visible()
    waiting: list[Route] = []
    page.route("**/suggestions/*", lambda route: waiting.append(route))

    page.keyboard.type("us:fai")
    option(page, "status:").click()
    page.keyboard.press("ArrowDown")
    expect(box).to_have_value("status:fai")
    expect(option(page, "status:")).to_have_attribute("aria-selected", "false")

    waiting[-1].continue_()
    expect(option(page, "failed")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    expect(box).to_have_value("status:failed ")


def test_suggestion_is_clicked(page: Page) -> None:
    page.goto(LIST)
    page.get_by_role("combobox", name="Search").fill('😀 OR metadata."cost')
    option(page, "cost center").click()
    option(page, "onerror").click()
    page.keyboard.press("Enter")

    expect(page.locator("tr.data-row")).to_have_count(1)
    expect(page.get_by_role("link", name="run_other")).to_be_visible()


def test_mistake_is_underlined(page: Page) -> None:
    page.goto(LIST)
    box = page.get_by_role("combobox", name="Search")
    box.click()
    page.keyboard.type("sttus:failed")
    expect(option(page)).to_have_count(0)
    expect(page.locator("#search-problem")).to_be_empty()  # The name may not be complete yet.
    page.keyboard.type(" team")
    expect(page.locator("#search-problem")).to_contain_text("Did you mean status?")
    expect(page.locator("[data-mirror] mark")).to_have_text("sttus:failed")
    page.keyboard.press("Enter")

    expect(page.get_by_role("alert").first).to_contain_text("Did you mean status?")
    expect(page.locator("[data-mirror] mark")).to_have_text("sttus:failed")
    expect(page.get_by_text("The search cannot be read.")).to_be_visible()


def test_values_add_to_the_search(page: Page) -> None:
    page.goto(f"{LIST}?q=run_failed_0+OR+run_other")
    page.get_by_role("link", name="Failed", exact=True).first.click()
    expect_search(page, "(run_failed_0 OR run_other) status:failed", 1)
    page.goto(f"{LIST}?q=run_failed_0+OR+status:failed+OR+run_other")
    page.get_by_role("link", name="Failed", exact=True).first.click()
    expect_search(page, "(run_failed_0 OR status:failed OR run_other) status:failed", 3)
    page.goto(f"{LIST}?o=-5&q=status:failed")
    page.get_by_title("team: billing").first.click(modifiers=["Alt"])
    expect_search(page, "status:failed -metadata.team:billing", 0)
    assert "o=-5" in page.url


def test_facets_work_by_keyboard(page: Page) -> None:
    page.goto(LIST)
    facets = page.locator("[data-facets]")
    facets.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(facets).to_contain_text("Counted in 4 runs.")
    facets.get_by_role("button", name="values").nth(1).focus()
    page.keyboard.press("Enter")
    expect(facets.locator("h3", has_text="cost center")).to_be_focused()
    expect(facets).to_contain_text(HOSTILE[:20])
    facets.get_by_role("link", name="rate_limit_exceeded").focus()
    page.keyboard.press("Enter")
    expect_search(page, "error:rate_limit_exceeded", 3)

    page.set_viewport_size({"width": 1800, "height": 900})
    page.goto(LIST)
    expect(page.locator("[data-facets]")).to_contain_text("Counted in 4 runs.")
    page.locator("[data-facets] li", has_text="not set").get_by_role("link").last.focus()
    page.keyboard.press("Alt+Enter")
    expect_search(page, "error:*", 3)


CLICK_AS_SOON_AS_SHOWN = """
const facets = document.querySelector("[data-facets]");
const observer = new MutationObserver(() => {
  const buttons = facets.querySelectorAll("[data-counted] button");
  if (buttons.length) { observer.disconnect(); buttons[1].click(); }
});
observer.observe(facets, { childList: true, subtree: true });
"""


def test_facets_work_as_soon_as_they_are_shown(page: Page) -> None:
    page.goto(LIST)
    page.evaluate(CLICK_AS_SOON_AS_SHOWN)
    page.locator("[data-facets] summary").click()
    expect(page.locator("[data-facets] h3", has_text="cost center")).to_be_visible()


def test_hint_of_an_empty_result_corrects_the_search(page: Page) -> None:
    page.goto(f"{LIST}?q=status:failed+metadata.taem:billing")
    expect(page.get_by_text("No runs match this search.")).to_be_visible()
    page.get_by_role("link", name="status:failed metadata.team:billing").click()

    expect_search(page, "status:failed metadata.team:billing", 3)


def test_filter_keeps_typed_text(page: Page) -> None:
    page.goto(LIST)
    page.get_by_role("combobox", name="Search").fill("run_failed_1")
    page.locator("select[name=status]").select_option("failed")
    expect_search(page, "run_failed_1 status:failed", 1)
    page.locator("select[name=status]").select_option("")
    expect_search(page, "run_failed_1", 1)


def test_palette_suggests_searches(page: Page) -> None:
    page.goto("/admin/")
    page.keyboard.press("Control+k")
    expect(page.locator("#search-input-command")).to_be_focused()
    page.keyboard.type("bill")
    expect(page.locator("#command-results")).to_contain_text("metadata.team:billing")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect_search(page, "metadata.team:billing", 3)

    page.goto("/admin/")
    page.keyboard.press("Control+k")
    expect(page.locator("#search-input-command")).to_be_focused()
    page.keyboard.type("metadata.cos")
    page.locator("#command-results").get_by_text('metadata."cost center":').click()
    expect(option(page, "onerror")).to_be_visible()


def test_curl_command_is_copied(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{LIST}?q=status:failed")
    page.get_by_text("Copy as curl").click()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert "/api/v1/runs/?q=status%3Afailed'" in page.evaluate("navigator.clipboard.readText()")
