"""Signed-in test clients, and forms and actions as a browser posts them."""

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client

from runsadmin.models import Run
from runsadmin.templatetags.links import change_url
from tests.form_rows import form_rows

type MakeUser = Callable[..., User]
type ClientFor = Callable[[User], Client]


@pytest.fixture
def client_for() -> ClientFor:
    """Returns a client that is signed in as the given user."""

    def client_for(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return client_for


@pytest.fixture
def as_alice(client_for: ClientFor, alice: User) -> Client:
    return client_for(alice)


@pytest.fixture
def as_bob(client_for: ClientFor, bob: User) -> Client:
    return client_for(bob)


@pytest.fixture
def as_carol(client_for: ClientFor, carol: User) -> Client:
    return client_for(carol)


def run_url(run: Run, name: str = "change") -> str:
    return f"/admin/runsadmin/run/{run.pk}/{name}/"


def base_field(client: Client, run: Run) -> str:
    """The value of the form's hidden field `base`, which holds the metadata that the form shows."""
    found = re.search(r'name="base" value="([^"]+)"', client.get(run_url(run, "metadata")).text)
    assert found
    return html.unescape(found[1])


def metadata_form(*pairs: tuple[str, str], base: str, **more: str) -> dict[str, object]:
    return {**form_rows(*({"key": key, "value": value} for key, value in pairs)), "base": base, **more}


def run_action(
    client: Client, row: Model, action: str, data: dict[str, str] | None = None, *, follow: bool = False
) -> Any:
    """Runs an action on the page of a row, and confirms it."""
    fields = {"CHANGE_FORM-action": action, "_selected_action": str(row.pk), "confirmed": "1", **(data or {})}
    return client.post(change_url(row), fields, follow=follow)


def run_list_action(
    client: Client, url: str, action: str, keys: list[int], *, follow: bool = False, **more: str
) -> Any:
    """Runs an action of a list on the ticked rows, as the script of the page posts it."""
    ticked = ",".join(map(str, keys))
    return client.post(url, {"action": action, "index": "0", "_selected_action": ticked, **more}, follow=follow)


@pytest.fixture
def six_runs(mirror_run: Callable[..., Run]) -> list[Run]:
    """Six runs in two threads. The last one is active, and the one before it failed."""
    status = {4: "failed", 5: "in_progress"}
    return [
        mirror_run(
            id=f"run_{n}", thread_id=f"thread_{n % 2}", metadata={"team": "blue", "n": str(n)},
            status=status.get(n, "completed"), created_at=1_700_000_000 + n,
        )
        for n in range(6)
    ]  # fmt: skip
