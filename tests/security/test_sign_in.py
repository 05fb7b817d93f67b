"""Guessing passwords is throttled and logged, and locks no one else out."""

import datetime as dt
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import time_machine
from axes.models import AccessAttempt
from django.contrib.auth.hashers import MD5PasswordHasher
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client, RequestFactory
from pytest_django import Settings

from project.login_throttle import client_address
from tests.security.conftest import Site

pytestmark = pytest.mark.django_db


def sign_in(username: str, password: str, address: str = "192.0.2.1", **headers: str) -> Any:
    client = Client(REMOTE_ADDR=address, headers=headers)
    return client.post("/admin/login/?next=/admin/", {"username": username, "password": password})


def is_signed_in(response: Any) -> bool:
    return bool(response.status_code == 302 and response["Location"] == "/admin/")


@pytest.mark.django_db(transaction=True)
def test_password_guessing_is_throttled(site: Site, alice: User) -> None:
    browser = site.browser()
    responses = [browser.sign_in("alice", "wrong")]
    form = {"csrfmiddlewaretoken": browser.cookies["csrftoken"], "username": "alice"}
    responses += [browser.post("/admin/login/", form | {"password": f"guess {n}"}) for n in range(98)]
    correct = browser.post("/admin/login/", form | {"password": "alice"})
    responses.append(correct)

    assert [response.status_code for response in responses] == [200] * 4 + [429] * 96
    assert "Wait 15 minutes" in responses[4].text
    assert 0 < int(responses[-1].headers["Retry-After"]) <= 900
    assert sum(AccessAttempt.objects.values_list("failures_since_start", flat=True)) == 5
    assert "Locking out" in site.log("web")
    assert "alice" not in "".join(line for line in site.log("web").splitlines() if "axes" in line)


@pytest.mark.django_db(transaction=True)
def test_parallel_guesses_are_counted_first(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    encode = MD5PasswordHasher.encode

    def encode_slowly(self: MD5PasswordHasher, password: str, salt: str) -> str:
        checked.append(password)
        time.sleep(0.3)
        return encode(self, password, salt)

    def guess(number: int) -> int:
        try:
            return int(sign_in("alice", f"guess {number}", **{"User-Agent": f"browser {number}"}).status_code)
        finally:
            connection.close()

    monkeypatch.setattr(MD5PasswordHasher, "encode", encode_slowly)
    with ThreadPoolExecutor(24) as pool:
        statuses = list(pool.map(guess, range(24)))

    assert 1 <= len(checked) <= 5
    assert statuses.count(429) >= 20
    assert sign_in("alice", "alice").status_code == 429


def test_sign_in_forgets_earlier_failures(alice: User, bob: User) -> None:
    for _ in range(4):
        sign_in("alice", "wrong")
    sign_in("bob", "wrong")

    assert is_signed_in(sign_in("alice", "alice"))

    assert [sign_in("alice", "wrong").status_code for _ in range(5)] == [200] * 4 + [429]
    assert AccessAttempt.objects.get(username="bob").failures_since_start == 1


def test_lockout_ends_despite_more_attempts(alice: User) -> None:
    now = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
    with time_machine.travel(now, tick=False) as clock:
        for _ in range(5):
            refused = sign_in("alice", "wrong")
        assert refused.status_code == 429
        clock.move_to(now + dt.timedelta(minutes=14))
        refused = sign_in("alice", "alice")
        assert refused.status_code == 429
        assert "Wait 1 minute before" in refused.content.decode()
        assert refused["Retry-After"] == "60"
        clock.move_to(now + dt.timedelta(minutes=15, seconds=1))
        assert is_signed_in(sign_in("alice", "alice"))


def test_refused_sign_in_hashes_no_password(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    encode = MD5PasswordHasher.encode

    def record_and_encode(self: MD5PasswordHasher, password: str, salt: str) -> str:
        hashed.append(password)
        return encode(self, password, salt)

    monkeypatch.setattr(MD5PasswordHasher, "encode", record_and_encode)
    for name in ("alice", "nobody"):
        responses = [sign_in(name, f"guess {n}").status_code for n in range(10)]
        assert responses == [200] * 4 + [429] * 6
    assert hashed == [f"guess {n}" for n in range(5)] * 2


def test_other_addresses_are_not_locked_out(alice: User) -> None:
    for _ in range(10):
        refused = sign_in("alice", "wrong", address="203.0.113.66")
    assert refused.status_code == 429
    assert is_signed_in(sign_in("alice", "alice", address="192.0.2.1"))


@pytest.mark.parametrize("command", ["axes_reset_ip ADDRESS", "axes_reset_username NAME"])
def test_operator_ends_the_lockout(command: str, alice: User) -> None:
    for _ in range(5):
        refused = sign_in("alice", "wrong")
    assert refused.status_code == 429
    assert f"manage.py {command}" in refused.content.decode()
    call_command(*command.replace("ADDRESS", "192.0.2.1").replace("NAME", "alice").split())
    assert is_signed_in(sign_in("alice", "alice"))


def test_others_at_the_address_can_sign_in(alice: User, bob: User) -> None:
    for _ in range(10):
        sign_in("alice", "wrong")
    assert is_signed_in(sign_in("bob", "bob"))


def test_password_spraying_is_limited(alice: User, bob: User) -> None:
    responses = [sign_in(f"name{n}", "Spring2026").status_code for n in range(60)]
    assert responses == [200] * 49 + [429] * 11
    assert sign_in("alice", "alice").status_code == 429
    assert is_signed_in(sign_in("bob", "bob", address="192.0.2.2"))


def test_unknown_names_get_the_same_error(alice: User) -> None:
    responses: list[tuple[int, bytes]] = []
    for name in ("alice", "nobody"):
        for _ in range(5):
            response = sign_in(name, "wrong", address=f"192.0.2.{len(responses)}")
        responses.append((response.status_code, response.content))
    assert responses[0] == responses[1]


def test_other_headers_do_not_end_the_lockout(alice: User) -> None:
    for n in range(10):
        refused = sign_in("alice", "wrong", **{"User-Agent": f"browser {n}", "X-Forwarded-For": f"198.51.100.{n}"})
    assert refused.status_code == 429


@pytest.mark.parametrize(
    ("proxies", "forwarded", "remote", "address"),
    [
        (0, "198.51.100.1", "192.0.2.1", "192.0.2.1"),
        (1, "", "192.0.2.1", "192.0.2.1"),
        (1, "198.51.100.1", "10.0.0.1", "198.51.100.1"),
        (1, "made up, 198.51.100.1", "10.0.0.1", "198.51.100.1"),
        (2, "made up, 198.51.100.1, 10.0.0.2", "10.0.0.1", "198.51.100.1"),
        (0, "", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        (0, "", "::ffff:192.0.2.1", "192.0.2.1"),
        (1, "nonsense", "10.0.0.1", None),
        (0, "", "", None),
    ],
)
def test_address_comes_from_trusted_proxies(
    settings: Settings, proxies: int, forwarded: str, remote: str, address: str | None
) -> None:
    settings.PROXIES = proxies
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    assert client_address(RequestFactory().get("/", REMOTE_ADDR=remote, headers=headers)) == address


def test_failed_sign_in_stores_no_password(alice: User) -> None:
    sign_in("alice", "almost right")
    stored = AccessAttempt.objects.values().get()
    assert "almost right" not in repr(stored)
