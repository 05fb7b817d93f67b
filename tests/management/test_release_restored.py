from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from runsadmin.metadata import MetadataPatch
from runsadmin.models import Edit
from runsadmin.services import connections, edits
from runsadmin.services.permissions import Action
from tests.conftest import EDITOR, MakeRun
from tests.management.conftest import Manage

pytestmark = pytest.mark.django_db


def test_waiting_edits_are_listed_and_released(manage: Manage, alice: User, mirror_run: MakeRun) -> None:
    patch = MetadataPatch({"team": "red"})
    first, second = (edits.record(run=mirror_run(), patch=patch, actor=alice, source=Edit.Source.API) for _ in range(2))
    Edit.objects.update(restored_from=timezone.now())
    connections.hold_restored(["default"], timezone.now())

    listed = manage("release_restored").out.splitlines()
    assert "default: A backup of" in listed[0]
    assert listed[1:] == [f"Edit {edit.pk} of {edit.run.upstream_id}, by alice: pending." for edit in (first, second)]

    output = manage("release_restored", str(first.pk), "999", "--actor", "alice")
    assert (output.code, output.out) == (1, f"Edit {first.pk}: released.\n")
    assert "Edit 999: no edit with this number waits to be released." in output.err
    assert "lacks the permission" in manage("release_restored", "--connection", "default", "--actor", "alice").err


def test_everything_is_released(manage: Manage, make_user: Callable[..., User], mirror_run: MakeRun) -> None:
    operator = make_user(*EDITOR, Action.HOLD, username="operator")
    edits.record(run=mirror_run(), patch=MetadataPatch({"a": "b"}), actor=operator, source=Edit.Source.API)
    Edit.objects.update(restored_from=timezone.now())
    connections.hold_restored(["default"], timezone.now())
    assert manage("release_restored", "--all", "--actor", "operator").out == "default: released, with 1 edit.\n"
    assert not connections.is_held("default")
    assert not edits.that_await_release().exists()
    assert manage("release_restored").out == "Nothing waits to be released.\n"
