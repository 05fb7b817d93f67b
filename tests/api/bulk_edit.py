"""Steps of a bulk edit through the REST API, for several test modules."""

from typing import Any

from runsadmin.models import BulkEdit
from tests.api.conftest import Api
from tests.bulk import push_until_settled

RED_BODY: dict[str, Any] = {"set": {"team": "red"}, "reason": "moved"}


def plan(client: Api, **body: Any) -> Any:
    response = client.post("bulk-edits/", RED_BODY | body)
    assert response.status_code == 202, response.json()
    return response.json()


def finish(client: Api, url: str) -> Any:
    """Pushes the edits until the bulk edit is no longer in progress. Returns the bulk edit."""
    push_until_settled(BulkEdit.objects.get(pk=client.get(url).json()["id"]))
    return client.get(url).json()


def run_action(client: Api, url: str, action: str, status: int = 202, body: Any = None) -> Any:
    response = client.post(f"{url}{action}/", body)
    assert response.status_code == status, response.json()
    return response.json()
