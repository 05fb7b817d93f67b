"""A real Chromium and a real server. A page fails its test if it throws or violates the content security policy."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, expect
from pytest_django.live_server_helper import LiveServer

from tests import chromium

type SignIn = Callable[[User], None]

# Playwright's synchronous API runs an event loop, in which Django refuses database access.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
expect.set_options(timeout=20_000)  # Long enough for a busy machine.


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    found = chromium.find()
    assert found, chromium.NOT_INSTALLED
    return {
        "executable_path": str(found),
        "env": chromium.environment(),
        "args": [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",  # Emulating a GPU in software takes longer.
            "--disable-quic",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
        ],
    }


@pytest.fixture(scope="session")
def base_url(live_server: LiveServer) -> str:
    """Lets tests write `page.goto("/admin/")`."""
    return live_server.url


@pytest.fixture(autouse=True)
def console_errors(context: BrowserContext) -> Iterator[list[str]]:
    """Errors in the browser's console, on all pages of the test. There must be none.

    "Failed to load resource" is ignored: responses such as 409 are not errors of the page.
    """
    errors: list[str] = []

    def record(message: ConsoleMessage) -> None:
        is_error = message.type == "error" or "Content Security Policy" in message.text
        if is_error and not message.text.startswith("Failed to load resource"):
            errors.append(f"{message.text} ({message.location['url']})")

    context.on("console", record)
    context.on("weberror", lambda error: errors.append(str(error.error)))
    yield errors
    assert not errors, "\n".join(errors)


@pytest.fixture
def sign_in(page: Page, live_server: LiveServer) -> SignIn:
    """Signs a user in without the form, which has its own tests."""

    def sign_in(user: User) -> None:
        client = Client()
        client.force_login(user)
        value = client.cookies[settings.SESSION_COOKIE_NAME].value
        page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": value, "url": live_server.url}])

    return sign_in
