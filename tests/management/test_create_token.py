import datetime as dt

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client

from tests.management.conftest import Manage

pytestmark = pytest.mark.django_db


def status(token: str) -> int:
    return Client().get("/api/v1/runs/", headers={"Authorization": f"Token {token}"}).status_code


def test_token_works_until_it_expires(manage: Manage, alice: User) -> None:
    output = manage("create_token", "alice", "--days", "2")
    token = output.out.strip()
    assert (output.code, len(token)) == (0, 64)
    assert status(token) == 200
    with time_machine.travel(dt.datetime.now(dt.UTC) + dt.timedelta(days=2, seconds=1)):
        assert status(token) == 401


def test_token_lasts_ninety_days_by_default(manage: Manage, alice: User) -> None:
    (data,) = manage("create_token", "alice", "--json").objects
    assert data["user"] == "alice"
    lifetime = dt.datetime.fromisoformat(data["expires_at"]) - dt.datetime.now(dt.UTC)
    assert dt.timedelta(days=89) < lifetime < dt.timedelta(days=90, minutes=1)
    assert manage("create_token", "alice", "--never", "--json").objects[0]["expires_at"] is None


def test_unknown_or_inactive_account_is_refused(manage: Manage, alice: User) -> None:
    assert manage("create_token", "mallory").err == "There is no account 'mallory'.\n"
    alice.is_active = False
    alice.save()
    assert "deactivated" in manage("create_token", "alice").err
    assert not alice.auth_token_set.exists()  # type: ignore[attr-defined]
