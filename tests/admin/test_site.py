"""The dashboard, accounts, tokens, and what all pages have in common."""

import datetime as dt
import re
from typing import Any

import pytest
import time_machine
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.test import Client
from pytest_django import Settings

from runsadmin.metadata import MetadataPatch
from runsadmin.models import Edit, Sync
from runsadmin.services import edits, syncs, tokens
from runsadmin.services.permissions import Action
from tests.admin.conftest import ClientFor, MakeUser, run_url
from tests.conftest import Connect, MakeRun
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db


def grant(user: User, *codenames: str) -> User:
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))
    return User.objects.get(pk=user.pk)


@pytest.fixture
def admin(make_user: MakeUser) -> User:
    return User.objects.create_superuser("admin", password="admin")


def test_dashboard_shows_what_is_permitted(
    mirror_run: MakeRun, alice: User, as_carol: Client, client_for: ClientFor, make_user: MakeUser
) -> None:
    run = mirror_run(status="failed")
    edits.record(run=run, patch=MetadataPatch.parse({"a": "b"}), actor=alice, source=Edit.Source.ADMIN)

    shown = as_carol.get("/admin/").text
    for value in ("Recent edits", "1</b> edit in progress", "Recent failures", run.upstream_id, "Recent syncs"):
        assert value in shown
    assert "Sync all threads" not in shown

    shown = client_for(make_user()).get("/admin/").text
    assert run.upstream_id not in shown
    assert "Recent edits" not in shown


def test_title_of_a_list_is_its_name(admin: User, client_for: ClientFor) -> None:
    client = client_for(admin)
    for path, name in (("runsadmin/run", "Runs"), ("runsadmin/savedview", "Saved views"), ("auth/user", "Users")):
        title = re.search("<title>(.*?)</title>", client.get(f"/admin/{path}/").text, re.DOTALL)
        assert title
        assert " ".join(title[1].split()) == f"{name} | runsadmin"


def test_dashboard_names_one_of_several_connections(connect: Connect, alice: User, as_alice: Client) -> None:
    syncs.start(connection="default", kind=Sync.Kind.FULL, actor=alice)
    assert "<span>default</span>" not in as_alice.get("/admin/").text
    connect("second")
    assert "<span>default</span>" in as_alice.get("/admin/").text


def test_sign_in_never_redirects_outside(make_user: MakeUser) -> None:
    make_user(username="dora")
    form = {"username": "dora", "password": "dora"}

    assert Client().post("/admin/login/", form).headers["Location"] == "/admin/"
    for outside in ("https://evil.example/", "//evil.example", "/\\evil.example"):
        response = Client().post("/admin/login/", {**form, "next": outside})
        assert response.headers["Location"] == "/admin/"


def test_actions_never_redirect_outside(mirror_run: MakeRun, as_alice: Client) -> None:
    run = mirror_run()

    for extra in ("?next=https://evil.example/", "?_to=//evil.example"):
        fields = {"CHANGE_FORM-action": "refresh", "_selected_action": run.pk, "next": "https://evil.example/"}
        response = as_alice.post(run_url(run) + extra, fields)
        assert response.headers["Location"] == run_url(run)


def test_anonymous_visitor_sees_nothing(mirror_run: MakeRun, client: Client) -> None:
    run = mirror_run()

    for url in ("/admin/", run_url(run), run_url(run, "metadata"), "/admin/search/?s=run", "/admin/knox/authtoken/"):
        assert client.get(url).headers["Location"].startswith("/admin/login/")


def test_polling_page_reloads_at_sign_out(mirror_run: MakeRun, client: Client) -> None:
    for url in (run_url(mirror_run()), "/admin/runsadmin/run/count/"):
        response = client.get(url, headers={"HX-Request": "true"}, follow=True)
        assert (response.status_code, response.headers["HX-Refresh"], response.content) == (204, "true", b"")
        assert "password" in client.get(url, follow=True).text


def test_global_search_is_case_sensitive(
    mirror_run: MakeRun, as_carol: Client, client_for: ClientFor, make_user: MakeUser
) -> None:
    run = mirror_run(id="run_AbC", thread_id="thread_XyZ")

    assert run_url(run) in as_carol.get("/admin/search/?s=run_Ab").text
    assert f"/admin/runsadmin/thread/{run.thread_id}/change/" in as_carol.get("/admin/search/?s=thread_X").text
    assert run_url(run) not in client_for(make_user()).get("/admin/search/?s=run_AbC").text


def test_superuser_manages_accounts_and_groups(admin: User, client_for: ClientFor, as_carol: Client) -> None:
    client = client_for(admin)

    for url in ("user/", "user/add/", f"user/{admin.pk}/change/", f"user/{admin.pk}/password/", "group/", "group/add/"):
        assert client.get(f"/admin/auth/{url}").status_code == 200
        assert as_carol.get(f"/admin/auth/{url}").status_code == 403
    form = {
        "username": "erin",
        "password1": "a-long-passw0rd",
        "password2": "a-long-passw0rd",
        "usable_password": "true",
    }
    client.post("/admin/auth/user/add/", form)
    assert User.objects.filter(username="erin").exists()


def tokens_of(user: User) -> Any:
    return apps.get_model("knox", "AuthToken")._default_manager.filter(user=user)


TOKENS = "/admin/knox/authtoken/"


def test_token_is_shown_once(make_user: MakeUser, client_for: ClientFor) -> None:
    client = client_for(grant(make_user(username="dora"), "add_authtoken", "view_authtoken", "delete_authtoken"))

    response = client.post(f"{TOKENS}add/", {"days": "30", "username": "other", "name": "nightly  report"})

    assert "no-store" in response.headers["Cache-Control"]
    found = re.search(r"data-token>([^<]+)<", response.text)
    assert found
    assert tokens_of(User.objects.get(username="dora")).get().details.name == "nightly report"
    assert found[1] not in client.get(TOKENS).text


def test_revoking_a_token_asks_first(make_user: MakeUser, client_for: ClientFor) -> None:
    client = client_for(grant(make_user(username="dora"), "view_authtoken", "delete_authtoken"))
    token = tokens.create(user=User.objects.get(username="dora"), expires_in=None, name="<b>nightly")
    page = f"{TOKENS}{tokens_of(User.objects.get(username='dora')).get().pk}/delete/"

    assert page in client.get(TOKENS).text
    asked = client.get(page).text
    assert "&lt;b&gt;nightly" in asked
    assert token[:8] in asked
    assert tokens.find(token[:8])

    assert "Token revoked." in client.post(page, follow=True).text
    assert tokens_of(User.objects.get(username="dora")).count() == 0


def test_list_shows_names_and_last_use(admin: User, alice: User, client_for: ClientFor) -> None:
    token = tokens.create(user=alice, expires_in=None, name="nightly report")
    assert "never" in client_for(admin).get(TOKENS).text
    with time_machine.travel(dt.datetime(2026, 12, 24, 23, 59, tzinfo=dt.UTC)):
        Client().get("/api/v1/runs/", headers={"Authorization": f"Token {token}"})

    shown = client_for(admin).get(TOKENS).text

    assert "nightly report" in shown
    assert "2026-12-24" in shown


def test_tokens_of_others_are_hidden(alice: User, make_user: MakeUser, client_for: ClientFor) -> None:
    tokens.create(user=alice, expires_in=None)
    token = tokens_of(alice).get()
    client = client_for(grant(make_user(username="dora"), "view_authtoken", "delete_authtoken"))

    assert "alice" not in client.get(TOKENS).text
    assert client.post(f"{TOKENS}{token.pk}/delete/").status_code == 403
    assert tokens_of(alice).exists()


def test_superuser_creates_tokens_for_others(admin: User, alice: User, client_for: ClientFor) -> None:
    client = client_for(admin)

    client.post(f"{TOKENS}add/", {"days": "7", "username": "alice", "name": "n"})
    assert tokens_of(alice).count() == 1
    for wrong, message in (
        ({"username": "x"}, "no active account"),
        ({"username": "x\0"}, "Null characters"),
        ({"days": "0"}, "when the token expires"),
        ({"name": "  "}, "Enter what the token is for"),
        ({"name": "n" * 101}, "Enter what the token is for"),
    ):
        form = {"days": "7", "name": "n", **wrong}
        shown = client.post(f"{TOKENS}add/", form).text
        assert message in shown
        assert 'name="days"' in shown
    assert tokens_of(admin).count() == 0


def test_invalid_token_form_keeps_input(admin: User, client_for: ClientFor) -> None:
    shown = client_for(admin).post(f"{TOKENS}add/", {"days": "7", "username": "x", "name": "nightly"}).text
    assert 'value="nightly"' in shown
    assert '<option value="7" selected>' in shown


def test_tokens_need_permission(as_carol: Client) -> None:
    assert as_carol.get(TOKENS).status_code == 403
    assert as_carol.post(f"{TOKENS}add/", {"days": "7"}).status_code == 403


@pytest.mark.parametrize(
    ("page", "permission"),
    [
        ("knox/authtoken/", "knox.add_authtoken"),
        ("knox/authtoken/add/", "knox.add_authtoken"),
        ("knox/authtoken/x/delete/", "knox.delete_authtoken"),
        ("auth/user/", "auth.view_user"),
        ("auth/user/add/", "auth.add_user"),
        ("auth/user/{}/change/", "auth.view_user"),
        ("auth/user/{}/password/", "auth.change_user"),
        ("auth/user/{}/delete/", "auth.delete_user"),
        ("auth/group/", "auth.view_group"),
    ],
)
def test_refusal_names_the_permission(page: str, permission: str, carol: User, as_carol: Client) -> None:
    shown = as_carol.get(f"/admin/{page.format(carol.pk)}")
    assert shown.status_code == 403
    assert f"it lacks the permission {permission}." in shown.text


def test_refusal_names_no_permission_without_effect(client_for: ClientFor, make_user: MakeUser) -> None:
    visitor = client_for(make_user(Action.SYNC))
    refused = visitor.get("/admin/runsadmin/savedview/add/")
    assert refused.status_code == 403
    assert "it lacks the permission runsadmin.view_run," in refused.text
    for page in ("savedview/", "edit/add/"):
        refused = visitor.get(f"/admin/runsadmin/{page}")
        assert refused.status_code == 403
        assert "savedview" not in refused.text.partition("<main")[2]
        assert "add_edit" not in refused.text


def test_hold_setting_is_shown(settings: Settings, as_carol: Client) -> None:
    settings.RUNSADMIN_HOLD = True

    assert "RUNSADMIN_HOLD" in as_carol.get("/admin/").text


def test_connection_page_shows_no_secret(admin: User, client_for: ClientFor, sandbox: Sandbox) -> None:
    shown = client_for(admin).get("/admin/runsadmin/connectionstate/").text

    assert sandbox.url in shown
    assert sandbox.key not in shown


def test_unused_permissions_are_not_offered(client_for: ClientFor) -> None:
    admin = client_for(User.objects.create_superuser("root"))

    for url in ("/admin/auth/group/add/", f"/admin/auth/user/{User.objects.get().pk}/change/"):
        shown = admin.get(url).text
        assert "Edit metadata" in shown
        assert "Plan bulk edits" in shown
        for name in ("content type", "log entry", "worker", "Can change run", "idempotency"):
            assert name not in shown, name
    offered = re.findall(r"<option value=", admin.get("/admin/auth/group/add/").text)
    assert len(offered) == 26
