"""Calls over HTTP by a client that openapi-python-client generates from the OpenAPI document."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django.live_server_helper import LiveServer

from runsadmin.api.schema_views import document
from runsadmin.models import BulkEdit, Run
from runsadmin.run_format import FIELDS
from runsadmin.services import tokens
from tests.bulk import push_until_settled
from tests.sandbox_client import Sandbox, make_run

pytestmark = pytest.mark.django_db(transaction=True)

PACKAGE = "generated_runs_client"


@pytest.fixture(scope="module")
def client_package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the generated package."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "openapi.json").write_text(json.dumps(document()))
    (folder / "config.yml").write_text("post_hooks: []\n")
    command = [str(Path(sys.executable).with_name("openapi-python-client")), "generate", "--meta", "none"]
    command += ["--fail-on-warning", "--path", "openapi.json", "--config", "config.yml", "--output-path", PACKAGE]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    sys.path.insert(0, str(folder))
    yield folder / PACKAGE
    sys.path.remove(str(folder))


def test_fields_of_runs_have_types(client_package: Path) -> None:
    lines = (client_package / "models" / "run.py").read_text()
    fields = re.findall(
        r"^    (\w+): (.+)$", lines.partition("class Run:")[2].partition("def to_dict")[0], re.MULTILINE
    )
    assert [name for name, kind in fields if "Any" in kind] == ["additional_properties"]
    assert len(fields) == len(FIELDS) + 2
    assert dict(fields)["usage"] == "None | Usage"


class GeneratedClient:
    """Calls operations by id, and checks the type of each parsed response."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._models = import_module(f"{PACKAGE}.models")

    def call(self, tag: str, operation: str, model: str, *args: Any, body_type: str = "", **options: Any) -> Any:
        if isinstance(body := options.get("body"), dict):
            name = "".join(part.title() for part in operation.split("_")) + "Body"
            options["body"] = getattr(self._models, body_type or name).from_dict(body)
        module = import_module(f"{PACKAGE}.api.{tag}.{operation}")
        response = module.sync_detailed(*args, client=self._client, **options)
        assert isinstance(response.parsed, getattr(self._models, model)), response.content
        return response


@pytest.fixture
def client(client_package: Path, live_server: LiveServer, alice: User) -> Iterator[GeneratedClient]:
    token = tokens.create(user=alice, expires_in=None)
    client_class = import_module(f"{PACKAGE}.client").AuthenticatedClient
    with client_class(live_server.url, token, prefix="Token") as client:
        yield GeneratedClient(client)


def test_run_is_listed_edited_and_undone(
    sandbox: Sandbox, mirror_run: Callable[..., Run], client: GeneratedClient
) -> None:
    mirror_run(id="run_a", metadata={"team": "ads"})
    mirror_run(id="run_b", status="failed")

    listed = client.call("runs", "list_runs", "PaginatedRunList", status="completed", page_size=10).parsed
    assert [(run.id, run.metadata.to_dict()) for run in listed.results] == [("run_a", {"team": "ads"})]
    run = listed.results[0]
    assert (run.status, run.usage.total_tokens, run.truncation_strategy.type_) == ("completed", 150, "auto")
    assert [tool.type_ for tool in run.tools] == [tool["type"] for tool in make_run()["tools"]]
    etag = client.call("runs", "retrieve_run", "Run", "run_a").headers["etag"]
    body = {"metadata": {"team": "search"}, "reason": "Team was renamed"}
    edited = client.call("runs", "edit_run", "Run", "run_a", body=body, if_match=etag).parsed
    assert (edited.mirror.edit.status, edited.metadata.to_dict()) == ("applied", {"team": "search"})
    stale = client.call("runs", "edit_run", "Problem", "run_a", body=body, if_match=etag)
    assert (stale.status_code, stale.parsed.type_) == (412, "urn:runsadmin:problem:stale-version")

    undo = client.call("edits", "undo_edit", "Edit", edited.mirror.edit.id, body={"reason": "A mistake"}).parsed
    assert (undo.status, undo.after.to_dict()) == ("applied", {"team": "ads"})
    assert sandbox.metadata("run_a") == {"team": "ads"}


def test_bulk_edit_is_applied_and_undone(
    sandbox: Sandbox, mirror_run: Callable[..., Run], client: GeneratedClient
) -> None:
    for id in ("run_a", "run_b"):
        mirror_run(id=id, metadata={"team": "ads"})

    body: dict[str, Any] = {"q": "metadata.team:ads", "set": {"team": "search"}, "reason": "Team was renamed"}
    plan = client.call("bulk_edits", "plan_bulk_edit", "NewBulkEdit", body=body, body_type="PlanBySearch").parsed
    assert (plan.status, plan.progress.statuses.to_dict()) == ("planned", {"planned": 2})
    edits = client.call("bulk_edits", "list_edits_of_bulk_edit", "PaginatedPlannedEditList", plan.id).parsed
    assert [edit.after.to_dict() for edit in edits.results] == [{"team": "search"}] * 2

    client.call("bulk_edits", "apply_bulk_edit", "BulkEditDetail", plan.id)
    push_until_settled(BulkEdit.objects.get(pk=plan.id))
    done = client.call("bulk_edits", "retrieve_bulk_edit", "BulkEditDetail", plan.id).parsed
    assert (done.status, done.progress.statuses.to_dict()) == ("completed", {"applied": 2})
    undo = client.call("bulk_edits", "undo_bulk_edit", "BulkEditDetail", plan.id, body={"reason": "A mistake"}).parsed
    client.call("bulk_edits", "apply_bulk_edit", "BulkEditDetail", undo.id)
    push_until_settled(BulkEdit.objects.get(pk=undo.id))
    assert [sandbox.metadata(id) for id in ("run_a", "run_b")] == [{"team": "ads"}] * 2


def test_thread_is_tracked_and_synced(sandbox: Sandbox, client: GeneratedClient) -> None:
    body = {"thread_id": "thread_a"}
    tracked = client.call("threads", "track_threads", "TrackedThreads", body=body, body_type="TrackOneThread").parsed
    assert [(row.thread_id, row.outcome) for row in tracked.results] == [("thread_a", "added")]
    sync = client.call("syncs", "start_sync", "SyncDetail", body={"kind": "full"}).parsed
    assert (sync.status, sync.thread_id) == ("queued", None)
