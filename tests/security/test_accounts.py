"""Changing accounts and groups gives no one permissions that they lack."""

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from runsadmin.metadata import MetadataPatch
from runsadmin.models import BulkEdit, Edit, SavedView, Sync
from runsadmin.services import accounts, edits, tokens, views
from runsadmin.services.permissions import Action
from tests.admin.conftest import MakeUser
from tests.conftest import MakeRun

pytestmark = pytest.mark.django_db


def permission(codename: str) -> Permission:
    return Permission.objects.get(codename=codename)


@pytest.fixture
def manager(make_user: MakeUser) -> User:
    """May change accounts and groups, and view runs, but not edit them."""
    user = make_user(Action.VIEW_RUNS, username="manager")
    names = ("add_user", "change_user", "delete_user", "view_user", "add_group", "change_group", "delete_group")
    user.user_permissions.add(*(permission(name) for name in names))
    return user


@pytest.fixture
def client(manager: User) -> Client:
    client = Client()
    client.force_login(manager)
    return client


def change(client: Client, account: User, **values: object) -> int:
    form = {
        "username": account.username, "is_active": "on", "is_staff": "on", "last_login_0": "", "last_login_1": "",
        "date_joined_0": "2026-11-27", "date_joined_1": "10:00:00", **values,
    }  # fmt: skip
    return client.post(f"/admin/auth/user/{account.pk}/change/", form).status_code


def test_manager_cannot_become_superuser(client: Client, manager: User) -> None:
    assert change(client, manager, is_superuser="on", user_permissions=permission("change_user").pk) == 302

    manager.refresh_from_db()
    assert not manager.is_superuser


@pytest.mark.parametrize("is_active", [True, False])
def test_manager_cannot_change_a_superuser(client: Client, is_active: bool) -> None:
    root = User.objects.create_superuser("root", password="root", is_active=is_active)
    page = f"/admin/auth/user/{root.pk}/"

    password = {"password1": "a-long-passw0rd", "password2": "a-long-passw0rd", "usable_password": "true"}
    assert client.post(f"{page}password/", password).status_code == 403
    assert change(client, root, username="mine") == 403
    assert client.post(f"{page}delete/", {"post": "yes"}).status_code == 403
    assert "root" in client.get(f"{page}change/").text
    actions = {"action": "delete_selected", "_selected_action": root.pk, "post": "yes"}
    client.post("/admin/auth/user/", actions)

    root.refresh_from_db()
    assert (root.username, root.check_password("root")) == ("root", True)


@pytest.mark.parametrize("is_active", [True, False])
def test_stronger_account_cannot_be_taken_over(client: Client, make_user: MakeUser, is_active: bool) -> None:
    editor = make_user(username="editor", is_active=is_active)
    editor.groups.add(Group.objects.get(name="Editor"))

    password = {"password1": "a-long-passw0rd", "password2": "a-long-passw0rd", "usable_password": "true"}
    assert client.post(f"/admin/auth/user/{editor.pk}/password/", password).status_code == 403
    assert change(client, editor) == 403

    editor.refresh_from_db()
    assert (editor.check_password("editor"), editor.is_active) == (True, is_active)


def test_manager_grants_only_what_they_have(client: Client, make_user: MakeUser) -> None:
    account = make_user(username="new")
    viewers = Group.objects.create(name="Run viewers")
    viewers.permissions.add(permission("view_run"))

    refused: list[dict[str, object]] = [
        {"user_permissions": permission("change_run").pk},
        {"user_permissions": permission("view_authtoken").pk},
        {"groups": Group.objects.get(name="Editor").pk},
        {"user_permissions": [permission("view_run").pk, permission("change_run").pk]},
    ]
    for values in refused:
        assert change(client, account, **values) == 200, values
        assert account.user_permissions.count() + account.groups.count() == 0

    assert change(client, account, user_permissions=permission("view_run").pk, groups=viewers.pk) == 302
    assert list(account.user_permissions.all()) == [permission("view_run")]
    assert list(account.groups.all()) == [viewers]


def test_groups_grant_only_what_the_manager_has(client: Client) -> None:
    editors, before = Group.objects.get(name="Editor"), Group.objects.count()

    values = {"name": "More", "permissions": permission("change_run").pk}
    assert client.post("/admin/auth/group/add/", values).status_code == 200
    assert client.post(f"/admin/auth/group/{editors.pk}/change/", values).status_code == 403
    assert client.post(f"/admin/auth/group/{editors.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Group.objects.count() == before

    assert client.post("/admin/auth/group/add/", values | {"permissions": permission("view_run").pk}).status_code == 302
    assert list(Group.objects.get(name="More").permissions.all()) == [permission("view_run")]


def test_superuser_grants_everything(make_user: MakeUser) -> None:
    account, client = make_user(username="new"), Client()
    client.force_login(User.objects.create_superuser("root"))

    assert change(client, account, user_permissions=permission("change_run").pk, is_superuser="on") == 302

    account.refresh_from_db()
    assert account.is_superuser
    assert list(account.user_permissions.all()) == [permission("change_run")]


@pytest.mark.parametrize("confirmed", [{}, {"post": "yes"}])
def test_account_with_edits_is_not_deleted(
    confirmed: dict[str, str], mirror_run: MakeRun, alice: User, bob: User
) -> None:
    edits.record(run=mirror_run(), patch=MetadataPatch({"team": "red"}), actor=alice, source=Edit.Source.API)
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    selected = {"action": "delete_selected", "_selected_action": [alice.pk, bob.pk]}
    with CaptureQueriesContext(connection) as queries:
        pages = [
            client.post(f"/admin/auth/user/{alice.pk}/delete/", confirmed).text,
            client.post("/admin/auth/user/", selected | confirmed).text,
        ]
    for page in pages:
        assert "The account alice cannot be deleted: edits, bulk edits, syncs or exports name it." in page
        assert "have permission to delete" not in page
    assert not any('"runsadmin_edit"."patch"' in query["sql"] for query in queries)  # The edits are not read.
    assert User.objects.filter(pk__in=[alice.pk, bob.pk]).count() == 2


def test_rows_with_its_name_keep_an_account(alice: User, bob: User) -> None:
    tokens.create(user=alice, expires_in=None)
    views.save(view=SavedView(name="Mine"), actor=alice)
    assert not accounts.has_history(alice)
    BulkEdit.objects.create(connection="default", actor=bob, applied_by=alice, source=Edit.Source.API, reason="r")
    assert accounts.has_history(alice)
    BulkEdit.objects.all().delete()
    Sync.objects.create(connection="default", kind=Sync.Kind.FULL, actor=alice)
    assert (accounts.has_history(alice), accounts.has_history(bob)) == (True, False)
