"""A morning's failures: found by the search box and facets, saved as a view, and worked through."""

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from runsadmin.models import Run
from tests.admin.test_run_list import LIST, make_runs  # noqa: F401 - a fixture
from tests.browser.conftest import SignIn
from tests.conftest import MakeRun
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)

LIMITED = {"code": "rate_limit_exceeded", "message": ""}


@pytest.fixture
def failures(make_runs: MakeRun, mirror_run: MakeRun, sandbox: Sandbox) -> None:  # noqa: F811
    """80 failed runs, the last 20 with another error, and a completed one. Upstream has run_051 and run_052."""
    make_runs(80, status="failed", last_error=LIMITED)
    Run.objects.filter(upstream_id__gte="run_060").update(error_code="server_error")
    times = dict(Run.objects.values_list("upstream_id", "created_at"))
    for run_id in ("run_051", "run_052"):
        Run.objects.filter(upstream_id=run_id).delete()
        created_at = int(times[run_id].timestamp())
        mirror_run(id=run_id, created_at=created_at, status="failed", last_error=LIMITED, metadata={"team": "blue"})
    mirror_run(status="completed")


def test_failures_are_triaged(page: Page, failures: None, alice: User, carol: User, sign_in: SignIn) -> None:
    page.set_viewport_size({"width": 1440, "height": 900})  # Wide enough for the menu.
    sign_in(alice)
    page.goto(LIST)
    page.keyboard.press("/")
    page.keyboard.type("status:fai")
    expect(page.locator("#suggestions li", has_text="failed")).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.type("created:")
    expect(page.locator("#suggestions li", has_text="the last 7 days")).to_be_visible()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "Enter", "Enter"):
        page.keyboard.press(key)
    expect(page.locator("[data-search] [name=q]")).to_have_value("status:failed created:>-7d")
    facets = page.locator("[data-facets]")
    facets.locator("summary").press("Enter")
    expect(facets).to_contain_text("Counted in 80 runs.")
    facets.get_by_role("link", name="rate_limit_exceeded").press("Enter")
    expect(page.locator("[data-search] [name=q]")).to_have_value("status:failed created:>-7d error:rate_limit_exceeded")
    expect(page.locator(".ra-across")).to_contain_text("(60)")

    page.get_by_role("link", name="Save as a view…").click()
    page.get_by_label("Name").fill("Rate limits")
    page.get_by_label("Shared").check()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".ra-list-tools")).to_contain_text("View: Rate limits")
    page.goto("/admin/")
    page.get_by_role("link", name="Rate limits").click()
    expect(page.locator(".ra-across")).to_contain_text("(60)")
    page.get_by_role("link", name="Older").click()
    expect(page.locator("tr.data-row")).to_have_count(10)
    page.get_by_role("link", name="run_051").click()
    expect(page.locator(".ra-head h2")).to_contain_text("run_051")
    page.keyboard.press("j")
    expect(page.locator(".ra-head h2")).to_contain_text("run_052")
    page.get_by_role("button", name="Edit metadata…").click()
    page.locator("[name$=-value]").first.fill("red")
    page.get_by_role("button", name="Send to upstream").click()
    expect(page.locator(".ra-head h2")).to_contain_text("Applied")
    page.get_by_role("link", name="Show the run").click()
    page.get_by_role("link", name="Back to the list").click()
    expect(page.locator("#result_list tr:target")).to_contain_text("red")
    expect(page.locator("tr.data-row")).to_have_count(10)

    link, rows = page.url, page.locator("tr.data-row .ra-id").all_inner_texts()
    sign_in(carol)
    page.goto(link)
    assert page.locator("tr.data-row .ra-id").all_inner_texts() == rows
    expect(page.locator(".ra-list-tools")).to_contain_text("Rate limits")
