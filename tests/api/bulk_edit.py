"""Steps of a bulk edit by REST that tests share."""

from typing import Any

from runsadmin.models import BulkEdit
from tests.api.conftest import Api
from tests.bulk import push_until_settled

RED: dict[str, Any] = {"set": {"team": "red"}, "reason": "moved"}


def plan(client: Api, **body: Any) -> Any:
    response = client.post("bulk-edits/", RED | body)
    assert response.status_code == 202, response.json()
    return response.json()


def finish(client: Api, address: str) -> Any:
    """Pushes the edits; returns the bulk edit once it is no longer in progress."""
    push_until_settled(BulkEdit.objects.get(pk=client.get(address).json()["id"]))
    return client.get(address).json()


def act(client: Api, address: str, verb: str, status: int = 202, body: Any = None) -> Any:
    response = client.post(f"{address}{verb}/", body)
    assert response.status_code == status, response.json()
    return response.json()
