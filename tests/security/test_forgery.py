"""No one else can act for a signed-in user: sessions, cookies, forged requests, redirects and hosts."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.resolvers import RoutePattern

from runsadmin.models import Edit, Sync, Thread
from runsadmin.services import tokens
from tests.admin.conftest import run_action
from tests.api.conftest import problem
from tests.security.conftest import Site, run_in_production

pytestmark = pytest.mark.django_db

HOSTILE = [
    "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example",
    "https:evil.example", "javascript:alert(1)", "data:text/html,x", "/\t/evil.example", "//evil.example@testserver/",
    "http://testserver@evil.example/", "\x00//evil.example",
]  # fmt: skip


def all_urls(patterns: list[Any], prefix: str = "/") -> Iterator[str]:
    """Every URL of the site, with 1 as the value of each argument."""
    for pattern in patterns:
        if isinstance(pattern.pattern, RoutePattern):
            path = re.sub(r"<[^>]*>", "1", str(pattern.pattern))
        else:
            path = re.sub(r"\([^()]*\)|[\^$?]", "", str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            yield from all_urls(pattern.url_patterns, prefix + path)
        elif isinstance(pattern, URLPattern):
            yield prefix + path


URLS = sorted(set(all_urls(get_resolver().url_patterns)))


def test_admin_post_needs_csrf_token(csrf_client: Client, root: User) -> None:
    csrf_client.force_login(root)
    urls = [url for url in URLS if url.startswith("/admin/")]
    assert len(urls) > 40
    statuses = {url: csrf_client.post(url, {"on": "1"}).status_code for url in urls}
    assert set(statuses.values()) == {403}, statuses


@pytest.mark.parametrize("method", ["post", "patch", "delete", "put"])
def test_api_session_needs_csrf_token(csrf_client: Client, root: User, method: str) -> None:
    csrf_client.force_login(root)
    urls = [url for url in URLS if url.startswith("/api/")]
    assert len(urls) > 14
    for url in urls:
        refused = getattr(csrf_client, method)(url, {}, content_type="application/json")
        assert refused.status_code == 403, url
        if not url.endswith("/docs/"):  # The refusal of this page is HTML.
            assert "CSRF" in problem(refused, 403, "not-allowed")["detail"]


def test_api_token_needs_no_csrf_token(csrf_client: Client, alice: User) -> None:
    token = tokens.create(user=alice, expires_in=None)
    body = {"thread_id": "thread_a"}
    headers = {"Authorization": f"Token {token}"}
    assert csrf_client.post("/api/v1/threads/", body, "application/json", headers=headers).status_code == 201


def test_sign_out_requires_a_post(client: Client, alice: User) -> None:
    client.force_login(alice)
    assert client.get("/admin/logout/").status_code == 405
    assert client.get("/admin/").status_code == 200
    client.post("/admin/logout/")
    assert client.get("/admin/").status_code == 302


def test_sign_in_starts_a_new_session(client: Client, alice: User) -> None:
    chosen_by_attacker = client.session.session_key
    client.post("/admin/login/", {"username": "alice", "password": "alice"})
    assert client.get("/admin/").status_code == 200
    assert client.session.session_key != chosen_by_attacker


def test_new_password_ends_other_sessions(alice: User) -> None:
    other_browser = Client()
    other_browser.force_login(alice)
    assert other_browser.get("/admin/").status_code == 200
    alice.set_password("something else")
    alice.save()
    assert other_browser.get("/admin/").status_code == 302


def test_cookies_are_http_only_and_same_site(client: Client, alice: User) -> None:
    client.get("/admin/login/")
    client.post("/admin/login/", {"username": "alice", "password": "alice"})
    session, token = client.cookies["sessionid"], client.cookies["csrftoken"]
    assert (session["httponly"], session["samesite"], token["samesite"]) == (True, "Lax", "Lax")


def test_https_is_enforced_except_for_probes() -> None:
    code = (
        "from django.conf import settings as s; from django.test import Client\n"
        "plain = Client(headers={'Host': 'runs.example.org'})\n"
        "print(s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE, plain.get('/admin/')['Location'])\n"
        "print(plain.get('/livez').status_code, Client(headers={'Host': '10.0.0.7'}).get('/livez').status_code)\n"
        "secure = plain.get('/api/v1/runs/', headers={'X-Forwarded-Proto': 'https'})\n"
        "print(secure.status_code, secure['Strict-Transport-Security'])"
    )
    assert run_in_production(code) == [
        "True True https://runs.example.org/admin/",
        "200 200",
        "401 max-age=31536000; includeSubDomains; preload",
    ]


@pytest.mark.parametrize("target", HOSTILE)
def test_sign_in_never_redirects_outside(client: Client, alice: User, target: str) -> None:
    client.post("/admin/login/", {"username": "bob", "password": "wrong", "next": target})
    response = client.post("/admin/login/", {"username": "alice", "password": "alice", "next": target})
    assert response.status_code == 302
    assert response["Location"] == "/admin/"
    response = client.get("/admin/login/", {"next": target})
    assert "evil" not in response.get("Location", "")


@pytest.mark.django_db(transaction=True)
def test_no_url_redirects_outside(site: Site, alice: User, mirror_run: Any) -> None:
    mirror_run(id="run_a")
    browser = site.browser()
    assert browser.sign_in("alice", "alice").ok
    paths = [
        "//evil.example/admin", "//evil.example/%2e%2e", "/%5cevil.example/", "/static//evil.example/..",
        "/admin//evil.example", "/admin/%5c%5cevil.example", "/admin/r/1//evil.example/", "/admin/jsi18n//evil.example",
        "/admin/r/1/1/?next=//evil.example", "/admin/logout/?next=//evil.example",
        "/admin/password_change/?next=//evil.example", "/admin/runsadmin/run/?next=//evil.example",
        "/admin/runsadmin/run/1/change/?next=//evil.example", "/api/v1//evil.example",
        "/%0d%0aSet-Cookie:a=b", "/admin/%0d%0aSet-Cookie:a=b", "/admin/login/?next=/admin/%0d%0aSet-Cookie:a=b",
    ]  # fmt: skip
    for path in paths:
        response = browser.get(site.origin + path, allow_redirects=False)
        assert response.status_code < 500, path
        assert re.match(r"(?!//)/|$", response.headers.get("Location", "").replace(site.origin, "")), path
        assert "a=b" not in response.headers.get("Set-Cookie", "")


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "localhost:80@evil.example", "evil.example:8000", "a b"]
)
def test_unknown_host_is_refused(client: Client, alice: User, host: str) -> None:
    client.force_login(alice)
    for path in ("/", "/admin/", "/admin/login/", "/api/v1/runs/"):
        assert client.get(path, headers={"Host": host}).status_code == 400
    forwarded = client.get("/api/v1/syncs/", headers={"X-Forwarded-Host": host})
    assert "evil" not in str(forwarded.content) + str(forwarded.headers)


def test_forged_requests_change_nothing(csrf_client: Client, root: User) -> None:
    csrf_client.force_login(root)
    thread = Thread.objects.create(connection="default", upstream_id="thread_a")
    assert run_action(csrf_client, thread, "stop_tracking").status_code == 403
    csrf_client.post("/api/v1/syncs/", {}, "application/json")
    thread.refresh_from_db()
    assert thread.tracked
    assert not Sync.objects.exists()
    assert not Edit.objects.exists()
