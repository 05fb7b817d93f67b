import datetime as dt

import pytest
from django.contrib.auth.models import User
from django.test import Client
from knox.models import AuthToken

from runsadmin.services import tokens
from tests.management.conftest import Manage

pytestmark = pytest.mark.django_db


def status(token: str) -> int:
    return Client().get("/api/v1/runs/", headers={"Authorization": f"Token {token}"}).status_code


def test_tokens_are_listed(manage: Manage, alice: User, bob: User) -> None:
    used = tokens.create(user=alice, expires_in=dt.timedelta(days=2), name="nightly report")
    status(used)
    tokens.create(user=bob, expires_in=None)

    of_bob, of_alice = manage("tokens").out.splitlines()
    assert of_alice.startswith(f"{used[:8]}… 'nightly report' of alice, created ")
    assert f"last used {dt.datetime.now(dt.UTC).date()}, expires " in of_alice
    assert of_bob.endswith("never used, never expires")
    assert used not in manage("tokens", "--json").out
    (data,) = manage("tokens", "--json", "--user", "alice").objects
    assert (data["token"], data["name"], data["user"]) == (used[:8], "nightly report", "alice")


def test_tokens_are_revoked(manage: Manage, alice: User) -> None:
    revoked, kept = (tokens.create(user=alice, expires_in=None) for _ in range(2))

    output = manage("tokens", "--revoke", revoked[:8], revoked)

    (line,) = output.out.splitlines()  # One line, although the token was named twice.
    assert line.startswith(f"Revoked: {revoked[:8]}…")
    assert (output.code, status(revoked), status(kept)) == (0, 401, 200)


def test_ambiguous_prefix_revokes_nothing(manage: Manage, alice: User) -> None:
    first, second = (tokens.create(user=alice, expires_in=None) for _ in range(2))
    AuthToken.objects.update(token_key="0123456789abcde")

    assert "Several tokens" in manage("tokens", "--revoke", "01234567").err
    AuthToken.objects.filter(pk=tokens.newest_first()[0].pk).update(token_key=second[:15])
    unknown = manage("tokens", "--revoke", second[:8], "x1234567").err
    assert unknown == "No token begins with 'x1234567'. `manage.py tokens` lists them.\n"
    assert "at least 8 characters" in manage("tokens", "--revoke", second[:4]).err
    assert (status(first), status(second)) == (200, 200)
