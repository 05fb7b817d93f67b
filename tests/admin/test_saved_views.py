"""Saved views in the admin: opened from the menu, compared with the list, and managed."""

import html
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from runsadmin.models import DraftSelection, SavedView
from runsadmin.services import views
from tests.admin.conftest import run_list_action
from tests.admin.test_run_list import LIST, shown_ids
from tests.conftest import MakeRun

pytestmark = pytest.mark.django_db

VIEWS = "/admin/runsadmin/savedview/"
FIELDS = {"name": "Failed", "query": "status:failed", "columns": "id,error", "sort": "-duration", "tz": "Asia/Tokyo"}

type Save = Callable[..., SavedView]


@pytest.fixture
def save(alice: User) -> Save:
    """Saves a view of alice, or of another account."""

    def save(actor: User = alice, **fields: Any) -> SavedView:
        return views.save(view=SavedView(**FIELDS | fields), actor=actor)

    return save


def opened(client: Client, query: str) -> str:
    """The query of the URL to which this one, which lacks the state of a view, redirects."""
    response = client.get(LIST + query)
    assert response.status_code == 302
    return urlsplit(response["Location"]).query


def form_of(text: str, action: str) -> dict[str, str]:
    """The hidden fields of the form that posts to this URL."""
    found = re.search(rf'action="{re.escape(action)}">(.*?)</form>', text, re.DOTALL)
    assert found
    return {html.unescape(n): html.unescape(v) for n, v in re.findall(r'name="(\w+)" value="([^"]*)"', found[1])}


def test_view_opens_with_its_state_in_the_url(
    save: Save, mirror_run: MakeRun, as_alice: Client, as_bob: Client
) -> None:
    mirror_run(id="run_a", status="failed")
    mirror_run(id="run_b")
    save()
    query = opened(as_alice, "?view=failed")
    assert dict(parse_qsl(query)) == {
        "view": "failed", "q": "status:failed", "o": "-duration", "columns": "id,error", "tz": "Asia/Tokyo"
    }  # fmt: skip
    text = as_alice.get(f"{LIST}?{query}").text
    assert shown_ids(as_alice, f"?{query}") == ["run_a"]
    assert "Differs" not in text
    assert "View: <b><bdi>Failed</bdi></b>" in text

    # A colleague who cannot see the view gets the same list.
    assert shown_ids(as_bob, f"?{query}") == ["run_a"]
    assert "or it is private" in as_bob.get(f"{LIST}?{query}").text


@pytest.mark.parametrize("change", ["q=status:expired", "o=created_at", "columns=id", "tz=UTC", "q="])
def test_changed_view_says_that_it_differs(change: str, save: Save, mirror_run: MakeRun, as_alice: Client) -> None:
    mirror_run()
    view = save()
    query = opened(as_alice, "?view=failed")
    name = change.partition("=")[0]
    changed = "&".join([*(each for each in query.split("&") if not each.startswith(f"{name}=")), change])

    text = as_alice.get(f"{LIST}?{changed}").text

    assert "Differs from the saved view" in text
    assert f'href="?{html.escape(query)}">Reset' in text
    posted = form_of(text, f"{VIEWS}failed/save/")
    response = as_alice.post(f"{VIEWS}failed/save/", posted)
    assert "Differs" not in as_alice.get(response["Location"]).text
    view.refresh_from_db()
    shown = parse_qs(changed)
    assert (view.query, view.tz) == (shown.get("q", [""])[0], shown["tz"][0])


def test_slug_is_queried_once(save: Save, mirror_run: MakeRun, as_alice: Client) -> None:
    mirror_run()
    save()
    query = opened(as_alice, "?view=failed")
    with CaptureQueriesContext(connection) as captured:
        as_alice.get(f"{LIST}?{query}")
    lookups = [each["sql"] for each in captured.captured_queries if '"slug" = ' in each["sql"]]
    assert len(lookups) == 1


def test_empty_values_and_spaces_are_no_difference(save: Save, as_alice: Client) -> None:
    save(columns="", sort="-created_at", query=" status:failed ")
    default = "id,status,created,duration,tokens,model,metadata"
    for query in (f"q=status:failed&columns={default}", "q=status:failed&o=-created_at"):
        assert "Differs" not in as_alice.get(f"{LIST}?view=failed&tz=Asia/Tokyo&{query}").text


def test_view_of_others_can_only_be_copied(save: Save, as_bob: Client, bob: User) -> None:
    view = save(is_shared=True)
    text = as_bob.get(f"{LIST}?view=failed&q=status:expired").text
    assert "shared by alice" in " ".join(text.split())
    assert "failed/save/" not in text
    assert as_bob.post(f"{VIEWS}failed/save/", {"sort": "duration", "tz": "UTC"}, follow=True).status_code == 403
    for page in ("change", "delete"):
        assert as_bob.post(f"{VIEWS}{view.pk}/{page}/", {"post": "yes", **FIELDS}).status_code == 403
    assert 'name="name"' not in as_bob.get(f"{VIEWS}{view.pk}/change/").text

    to_copy = html.unescape(re.search(r'href="([^"]+)">Save as…', text)[1])  # type: ignore[index]
    form = as_bob.get(to_copy).text
    assert ">status:expired</textarea>" in form
    response = as_bob.post(to_copy, FIELDS | {"name": "Mine", "query": "status:expired"})
    assert response["Location"] == f"{LIST}?view=mine"
    assert views.resolve("mine", bob).query == "status:expired"
    view.refresh_from_db()
    assert view.query == "status:failed"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("query", "sttus:failed", "Did you mean status"), ("columns", "stats", "Did you mean status"),
     ("tz", "Mars", "There is no time zone"), ("name", "", "required"), ("sort", "model", "valid choice")],
)  # fmt: skip
def test_invalid_view_is_not_saved(field: str, value: str, message: str, as_alice: Client) -> None:
    response = as_alice.post(f"{VIEWS}add/", FIELDS | {field: value})
    assert message in html.unescape(response.text)
    assert not SavedView.objects.exists()


def test_view_that_no_longer_parses_shows_its_error(save: Save, as_alice: Client) -> None:
    view = save()
    SavedView.objects.update(query="removed:x")
    assert "there is no field" in html.unescape(as_alice.get(VIEWS).text)
    query = opened(as_alice, "?view=failed")
    text = html.unescape(as_alice.get(f"{LIST}?{query}").text)
    assert "there is no field 'removed'" in text
    assert 'value="removed:x"' in text
    as_alice.post(f"{VIEWS}{view.pk}/change/", FIELDS | {"name": "Renamed", "query": "removed:x"})
    assert SavedView.objects.values_list("name", "query").get() == ("Renamed", "removed:x")


def test_sharing_needs_the_permission(as_carol: Client, as_alice: Client) -> None:
    assert "share_savedview" in as_carol.get(f"{VIEWS}add/").text
    as_carol.post(f"{VIEWS}add/", FIELDS | {"is_shared": "on"})
    as_alice.post(f"{VIEWS}add/", FIELDS | {"is_shared": "on"})
    assert list(SavedView.objects.order_by("pk").values_list("owner__username", "is_shared")) == [
        ("carol", False),
        ("alice", True),
    ]


def test_list_opens_the_default_view(save: Save, mirror_run: MakeRun, as_alice: Client, as_bob: Client) -> None:
    mirror_run(id="run_a")
    save(is_shared=True)
    for client in (as_alice, as_bob):
        client.post(f"{VIEWS}failed/default/")
        assert "view=failed" in opened(client, "")
        assert shown_ids(client, "?q=") == ["run_a"]
    as_bob.post(f"{VIEWS}failed/default/")
    assert shown_ids(as_bob) == ["run_a"]
    view = SavedView.objects.get()
    as_alice.post(f"{VIEWS}{view.pk}/change/", FIELDS)  # `is_default` is not ticked.
    assert shown_ids(as_alice) == ["run_a"]
    as_alice.post(f"{VIEWS}{view.pk}/delete/", {"post": "yes"})
    assert not SavedView.objects.exists()


@pytest.mark.parametrize("what", ["save", "default"])
def test_opened_form_url_leads_to_the_view(what: str, save: Save, as_alice: Client) -> None:
    """As after signing in again, which then opens the URL of the form that was sent."""
    save()
    before = SavedView.objects.values().get()
    response = as_alice.get(f"{VIEWS}failed/{what}/")
    assert response["Location"].startswith(f"{LIST}?view=failed")
    assert SavedView.objects.values().get() == before
    assert as_alice.get(LIST).status_code == 200  # With a default view, it would be a redirect.


def test_action_on_url_without_state_does_nothing(save: Save, mirror_run: MakeRun, as_alice: Client) -> None:
    mirror_run()
    save()
    response = run_list_action(as_alice, f"{LIST}?view=failed", "edit_metadata", [], select_across="1")
    assert response["Location"] == f"{LIST}?{opened(as_alice, '?view=failed')}"
    assert not DraftSelection.objects.exists()


def test_menu_lists_views(save: Save, as_bob: Client, as_alice: Client) -> None:
    save(name="<b>Mine</b>")
    save(name="Ours", is_shared=True)
    mine, ours = (f'href="{LIST}?view={slug}"' for slug in ("bmineb", "ours"))
    of_alice, of_bob = as_alice.get("/admin/").text, as_bob.get("/admin/").text
    assert mine in of_alice
    assert "<b>Mine</b>" not in of_alice
    assert ours in of_alice
    assert ours in of_bob
    assert mine not in of_bob


def test_account_with_views_can_be_deleted(save: Save, carol: User, client_for: Callable[[User], Client]) -> None:
    mine = save(carol, name="Mine")
    views.set_default(view=mine, actor=carol)
    save(carol, name="Ours")
    SavedView.objects.filter(name="Ours").update(is_shared=True)
    admin = client_for(User.objects.create_superuser("root"))

    response = admin.post(f"/admin/auth/user/{carol.pk}/delete/", {"post": "yes"})

    assert response.status_code == 302
    assert [(view.name, view.owner) for view in SavedView.objects.all()] == [("Ours", None)]
    assert "a deleted account" in admin.get(f"{LIST}?view=ours&q=").text
    assert admin.post(f"{VIEWS}{mine.pk}/delete/", {"post": "yes"}).status_code == 302  # It no longer exists.


def test_private_views_are_not_listed(save: Save, as_bob: Client) -> None:
    view = save(name="Secret")
    shown = as_bob.get(VIEWS).text
    assert "Secret" not in shown
    assert "no saved views yet" in shown
    assert "Secret" not in as_bob.get(f"{VIEWS}{view.pk}/change/", follow=True).text
    assert as_bob.post(f"{VIEWS}secret/default/").status_code == 404


@pytest.mark.parametrize("page", ["{pk}/change/", "{pk}/delete/", "failed/default/"])
def test_view_deleted_meanwhile_is_a_404(
    page: str, save: Save, as_alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = VIEWS + page.format(pk=save(slug="failed").pk)
    locked = views._locked

    def delete_first(view: SavedView) -> SavedView:
        SavedView.objects.all().delete()
        return locked(view)

    monkeypatch.setattr(views, "_locked", delete_first)
    assert as_alice.post(url, FIELDS | {"name": "New", "post": "yes"}).status_code == 404
