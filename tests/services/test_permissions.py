"""Roles, and the message for users who lack a permission."""

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.models.signals import post_migrate

from runsadmin.errors import NotAllowed
from runsadmin.services import permissions
from runsadmin.services.permissions import ROLES, Action

pytestmark = pytest.mark.django_db


def migrate(*, is_first: bool) -> None:
    """Sends the signal that `migrate` sends at its end, for a new database or for one that is up to date."""
    migrations = MigrationLoader(connection).disk_migrations
    plan = [(migration, False) for (app, _), migration in migrations.items() if app == "runsadmin"] if is_first else []
    config = apps.get_app_config("runsadmin")
    post_migrate.send(sender=config, app_config=config, verbosity=0, interactive=False, using="default", plan=plan)


@pytest.fixture
def no_groups() -> None:
    Group.objects.all().delete()


@pytest.mark.usefixtures("no_groups")
def test_first_migration_creates_roles() -> None:
    migrate(is_first=True)
    created = {
        group.name: {f"runsadmin.{codename}" for codename in group.permissions.values_list("codename", flat=True)}
        for group in Group.objects.all()
    }
    assert created == {name: {action.value for action in actions} for name, actions in ROLES.items()}


@pytest.mark.usefixtures("no_groups")
def test_later_migrations_keep_groups() -> None:
    migrate(is_first=True)
    Group.objects.get(name="Operator").delete()
    Group.objects.get(name="Viewer").permissions.clear()
    migrate(is_first=False)
    assert not Group.objects.filter(name="Operator").exists()
    assert not Group.objects.get(name="Viewer").permissions.exists()


@pytest.mark.usefixtures("no_groups")
def test_existing_group_is_not_changed() -> None:
    Group.objects.create(name="Editor")
    migrate(is_first=True)
    assert not Group.objects.get(name="Editor").permissions.exists()


def test_every_action_is_in_a_role() -> None:
    assert set(Action) == {action for actions in ROLES.values() for action in actions}
    codenames = set(permissions.assignable().values_list("codename", flat=True))
    assert {action.value.removeprefix("runsadmin.") for action in Action} <= codenames
    assert "add_run" not in codenames
    assert permissions.assignable().count() < Permission.objects.count()


def test_refusal_names_the_permission(carol: User) -> None:
    with pytest.raises(NotAllowed) as caught:
        permissions.require(carol, Action.SYNC)
    assert str(caught.value) == (
        "The account 'carol' may not start a sync: it lacks the permission runsadmin.add_sync, which the group "
        "Operator has. A superuser, or staff who may change users, can add the account to the group."
    )


def test_inactive_account_has_no_permission(alice: User) -> None:
    alice.is_active = False
    assert not permissions.may(alice, Action.VIEW_RUNS)
