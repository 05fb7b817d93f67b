"""No header of a client changes its address, through nginx, Caddy and HAProxy as docs/proxies configures them."""

import http.client
import itertools
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest
import requests
from axes.models import AccessAttempt
from django.contrib.auth.models import User

from loadtests.processes import free_port
from tests import proxies
from tests.security.conftest import Browser, Site

type Headers = list[tuple[str, str]]

# {} is another address in each request.
SPELLINGS: list[Headers] = [
    [("X-Forwarded-For", "{}")],
    [("X_Forwarded_For", "{}")],
    [("x-forwarded_for", "{}")],
    [("X_FORWARDED-FOR", "{}")],
    [("Forwarded", "for={}")],
    [("X-Real-IP", "{}")],
    [("X_Real_IP", "{}")],
    [("X-Forwarded-For", "{}"), ("X_Forwarded_For", "{}")],
    [("X-Forwarded-For", "{}"), ("X-Forwarded-For", "{}")],
    [("X-Forwarded-For", "192.0.2.1, {}"), ("Forwarded", "for={}"), ("X-Real-IP", "{}")],
    [("X-Forwarded-For", "{},"), ("X_Forwarded_For", ", {}")],
    [("X-Forwarded-For", '"{}", ,')],
    [("Remote_Addr", "{}"), ("Remote-Addr", "{}"), ("HTTP_X_FORWARDED_FOR", "{}")],
    [("Client-IP", "{}"), ("True-Client-IP", "{}"), ("CF-Connecting-IP", "{}"), ("X-Client-IP", "{}")],
    [("Connection", "close, X-Forwarded-For"), ("X-Forwarded-For", "{}")],
]
ATTEMPTS = 30


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    site = make_site(PROXIES="1")
    site.start_web()
    return site


def guess(port: int, csrf_token: str, number: int) -> int:
    """The status after a wrong password, from a client that claims another address each time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    form = {"username": "alice", "password": f"guess {number}", "csrfmiddlewaretoken": csrf_token}
    body = urlencode(form).encode()
    connection.putrequest("POST", "/admin/login/")
    for name, value in SPELLINGS[number % len(SPELLINGS)]:
        connection.putheader(name, value.format(f"198.51.100.{number}"))
    for name, value in {
        "Cookie": f"csrftoken={csrf_token}",
        "Content-Type": "application/x-www-form-urlencoded",
        "Content-Length": str(len(body)),
    }.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    status = connection.getresponse().status
    connection.close()
    return status


def test_no_header_evades_the_throttle(site: Site, alice: User, tmp_path: Path, subtests: pytest.Subtests) -> None:
    for name in proxies.PACKAGES:
        port = free_port()
        browser = Browser(f"http://127.0.0.1:{port}")

        def responds(browser: Browser = browser) -> bool:
            try:
                return browser.get("/livez").ok
            except requests.ConnectionError:
                return False

        with (
            subtests.test(name),
            proxies.running(name, tmp_path / name, port=port, web_port=site.port, responds=responds),
        ):
            assert browser.sign_in("alice", "alice").url.endswith("/admin/")
            browser.get("/admin/login/")
            token = browser.cookies["csrftoken"]
            AccessAttempt.objects.all().delete()
            statuses = [guess(port, token, number) for number in range(ATTEMPTS)]
            assert statuses == [200] * 4 + [429] * (ATTEMPTS - 4)
            assert set(AccessAttempt.objects.values_list("ip_address", flat=True)) == {"127.0.0.1"}


def test_no_spelling_evades_the_throttle(site: Site, alice: User) -> None:
    """Without a proxy in front, an address from a header counts, but only from the one that proxies set."""
    token = "a" * 32
    others = [n for n, spelling in enumerate(SPELLINGS) if all(name != "X-Forwarded-For" for name, _ in spelling)]
    numbers = itertools.islice(itertools.cycle(others), ATTEMPTS)
    statuses = [guess(site.port, token, number) for number in numbers]
    assert statuses == [200] * 4 + [429] * (ATTEMPTS - 4)
