"""No header of a client changes its address or protocol, through each proxy as docs/proxies configures it."""

import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
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


@contextmanager
def behind(name: str, site: Site, folder: Path) -> Iterator[Browser]:
    """Runs this proxy in front of the site. Yields a client of the proxy."""
    port = free_port()
    with proxies.running(name, folder / name, port=port, web_port=site.port):
        yield Browser(f"http://127.0.0.1:{port}")


def guess(origin: str, csrf_token: str, number: int) -> int:
    """The status after a wrong password, from a client that claims another address each time."""
    connection = http.client.HTTPConnection(urlsplit(origin).netloc, timeout=30)
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


def test_no_header_evades_the_throttle(
    make_site: Callable[..., Site], alice: User, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    site = make_site(PROXIES="1")
    site.start_web()
    for name in proxies.PACKAGES:
        with subtests.test(name), behind(name, site, tmp_path) as browser:
            assert browser.sign_in("alice", "alice").url.endswith("/admin/")
            browser.get("/admin/login/")
            AccessAttempt.objects.all().delete()
            statuses = [guess(browser.origin, browser.cookies["csrftoken"], number) for number in range(ATTEMPTS)]
            assert statuses == [200] * 4 + [429] * (ATTEMPTS - 4)
            assert set(AccessAttempt.objects.values_list("ip_address", flat=True)) == {"127.0.0.1"}


def test_no_header_pretends_https(make_site: Callable[..., Site], tmp_path: Path, subtests: pytest.Subtests) -> None:
    site = make_site(HTTPS="on", ALLOWED_HOSTS="127.0.0.1")
    site.start_web()
    for name in proxies.PACKAGES:
        with subtests.test(name), behind(name, site, tmp_path) as browser:
            for header in ("X-Forwarded-Proto", "X_Forwarded_Proto", "x-forwarded_proto"):
                response = browser.get("/admin/login/", headers={header: "https"}, allow_redirects=False)
                assert response.status_code == 301
                assert response.headers["Location"].startswith("https://127.0.0.1")


@pytest.mark.django_db(transaction=True)
def test_no_header_evades_the_throttle_without_proxies(site: Site, alice: User) -> None:
    """The headers of clients are ignored."""
    statuses = [guess(site.origin, "a" * 32, number) for number in range(ATTEMPTS)]
    assert statuses == [200] * 4 + [429] * (ATTEMPTS - 4)
