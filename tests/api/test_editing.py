"""The way of one edit through REST: recorded, sent, and told as what it became."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from runsadmin.models import Edit, Run
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)

Mirrored = Callable[..., Run]


def test_an_edit_reaches_upstream_the_mirror_and_the_log(
    sandbox: Sandbox, mirrored: Mirrored, api: Callable[..., Any], alice: User
) -> None:
    run = mirrored(id="run_a", metadata={"team": "blue", "old": "x"})

    answer = api(alice).patch("runs/run_a/", {"metadata": {"team": "red", "old": None}, "reason": "moved"})

    assert answer.status_code == 200
    assert answer.json()["metadata"] == {"team": "red"} == sandbox.metadata("run_a")
    edit = Edit.objects.get()
    assert answer.json()["mirror"]["edit"] == {
        "id": edit.pk,
        "status": "applied",
        "detail": "",
        "upstream_request_id": sandbox.posts()[0]["request_id"],
        "url": f"http://testserver/api/v1/edits/{edit.pk}/",
    }
    assert (edit.run, edit.actor, edit.door, edit.reason) == (run, alice, "api", "moved")
