"""Azure: tokens are shared and renewed, a missing token holds the connection like a 401, and request ids are found."""

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection
from types import ModuleType
from typing import Any

import pytest
from django.contrib.auth.models import User

from project import settings as project_settings
from runsadmin import conf
from runsadmin.errors import ConnectionHeld, Rejected
from runsadmin.models import ConnectionState, Edit, Run
from runsadmin.services import connections, probes
from runsadmin.upstream.client import Client
from tests.api.conftest import ApiOf, api  # noqa: F401 - fixture
from tests.conftest import CaptureLog, Connect
from tests.fake_upstream import FakeUpstream, Request, Response
from tests.quirks.conftest import process_due, push, record, sync

SECRET = "s3cretTOKEN"
SCOPE = "https://ai.azure.com/.default"


@dataclass
class Identity:
    """An identity endpoint, and a module `azure.identity` that uses it. `fail` is called before each token request."""

    server: FakeUpstream
    port: int = 0
    credentials: int = 0
    scopes: list[str] = field(default_factory=list)
    fail: Callable[[], None] = lambda: None

    def module(self) -> ModuleType:
        identity = self

        class AccessToken:
            def __init__(self, response: Any) -> None:
                self.token = response["access_token"]
                self.expires_on = int(response["expires_on"])

        class DefaultAzureCredential:
            def __init__(self) -> None:
                identity.credentials += 1

            def get_token(self, *scopes: str, **kwargs: Any) -> AccessToken:
                identity.scopes.append(*scopes)
                identity.fail()
                logging.getLogger("azure.core.pipeline").info("Request headers: %s", SECRET)
                logging.getLogger("azure.identity._credentials.chained").warning("No token: %s", SECRET)
                with closing(HTTPConnection("127.0.0.1", identity.port)) as connection:
                    connection.request("GET", "/v1/msi/token")
                    response = connection.getresponse()
                    body = response.read()
                if response.status != 200:
                    raise ClientAuthenticationError(
                        f"DefaultAzureCredential failed to retrieve a token.\nAttempted:\n\tManaged: {response.status}"
                    )
                return AccessToken(json.loads(body))

        module = ModuleType("azure.identity")
        module.DefaultAzureCredential = DefaultAzureCredential  # type: ignore[attr-defined]
        return module


class ClientAuthenticationError(Exception):
    pass


class CredentialUnavailableError(ClientAuthenticationError):
    pass


def token_response(name: str = SECRET, *, lasts: float = 3600) -> Response:
    return Response(200, {"access_token": name, "expires_on": str(int(time.time() + lasts))})


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch, upstream: FakeUpstream, connect: Connect) -> Iterator[Identity]:
    """An identity endpoint that returns tokens. The connection uses them instead of a key."""
    with FakeUpstream() as server:
        server.override(lambda request: token_response())
        identity = Identity(server, server.port)
        monkeypatch.setitem(sys.modules, "azure", ModuleType("azure"))
        monkeypatch.setitem(sys.modules, "azure.identity", identity.module())
        connect(AUTH="azure-identity", API_KEY="", CONNECT_TIMEOUT=0.4, READ_TIMEOUT=0.4)
        yield identity


def raises(error: BaseException) -> Callable[[Identity], None]:
    def fail() -> None:
        raise error

    return lambda identity: setattr(identity, "fail", fail)


def responds_with(response: Response) -> Callable[[Identity], None]:
    return lambda identity: identity.server.override(lambda request: response)


def refuse_connections(identity: Identity) -> None:
    identity.port = 9


def hang(identity: Identity) -> None:
    identity.server.override(lambda request: time.sleep(5))


def uninstall(identity: Identity) -> None:
    sys.modules["azure.identity"] = None  # type: ignore[assignment]


FAULTS: dict[str, Callable[[Identity], None]] = {
    "status 500": responds_with(Response(500, {"error": "x"})),
    "status 400": responds_with(Response(400, {"error": "identity not found"})),
    "HTML": responds_with(Response(200, b"<html>")),
    "empty body": responds_with(Response(200, b"")),
    "no token": responds_with(Response(200, {"expires_on": "9999999999"})),
    "empty token": responds_with(token_response("")),
    "null token": responds_with(Response(200, {"access_token": None, "expires_on": "9999999999"})),
    "broken token": responds_with(token_response(f"{SECRET}\r\nX: y")),
    "cuts the connection": responds_with(Response(cut=True)),
    "refuses the connection": refuse_connections,
    "hangs": hang,
    "unavailable": raises(CredentialUnavailableError()),
    "Entra refuses": raises(ClientAuthenticationError("Failed.\n\tEnv: AADSTS7000215: Invalid client secret.")),
    "times out": raises(TimeoutError("timed out")),
    "any exception": raises(RuntimeError(f"first line\n{SECRET}")),
    "not installed": uninstall,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_no_call_is_sent_without_a_token(
    upstream: FakeUpstream, identity: Identity, fault: Any, capture_log: CaptureLog
) -> None:
    log = capture_log("line")
    fault(identity)
    client = Client(conf.connection("default"))
    for call in (
        client.retrieve_thread,
        client.list_runs,
        lambda thread: client.modify_run(thread, "run_a", {"a": "b"}),
    ):
        with pytest.raises(ConnectionHeld, match=r"^There is no Azure token: .+\.$") as caught:
            call("thread_a")
        assert SECRET not in f"{caught.value}"
        assert (caught.value.__cause__, caught.value.http_status) == (None, None)
    assert upstream.log == []
    assert SECRET not in log.getvalue()
    assert "Traceback" not in log.getvalue()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["status 500", "refuses the connection", "hangs"])
def test_edits_and_syncs_wait_for_a_token(
    upstream: FakeUpstream,
    identity: Identity,
    run: Run,
    alice: User,
    connect: Connect,
    api: ApiOf,  # noqa: F811
    name: str,
) -> None:
    FAULTS[name](identity)
    connect(AZURE_SCOPE="https://other/.default")  # A scope for which no token is cached.
    edit = push(run, alice)
    assert (edit.status, edit.wait_reason, edit.attempts, edit.sent_at) == (
        Edit.Status.PENDING,
        Edit.WaitReason.HELD,
        0,
        None,
    )
    assert connections.held().get().hold == ConnectionState.Hold.CREDENTIALS

    connections.release("default")
    other = record(run, alice, {"b": "c"})
    process_due()
    edit.refresh_from_db()
    other.refresh_from_db()
    assert {edit.status, other.status} == {Edit.Status.PENDING}
    assert edit.attempts == 0
    assert connections.held().get().hold == ConnectionState.Hold.CREDENTIALS

    connections.release("default")
    assert "There is no Azure token" in sync(run.thread).detail

    connections.release("default")
    response = api(alice).post(f"runs/{run.upstream_id}/refresh/")
    assert (response.status_code, "There is no Azure token" in response.text) == (424, True)
    assert upstream.log == []

    connect(AZURE_SCOPE=SCOPE)
    ConnectionState.objects.update(next_probe_at=connections.held().get().held_since)
    probes.probe_held()
    assert not connections.held()
    process_due(times=2)
    assert upstream.metadata(run.upstream_id) == {"ticket": "1", "owner": "lee", "triage": "done", "b": "c"}


def test_credential_and_tokens_are_shared(upstream: FakeUpstream, identity: Identity, connect: Connect) -> None:
    connect("eu", AZURE_SCOPE="https://eu/.default")
    upstream.override(lambda request: Response(200, {"id": "thread_a"}))

    def call(alias: str) -> None:
        for _ in range(3):
            Client(conf.connection(alias)).retrieve_thread("thread_a")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, ["default", "eu"] * 8))
    assert (identity.credentials, sorted(identity.scopes)) == (1, [SCOPE, "https://eu/.default"])
    assert {request.headers["Authorization"] for request in upstream.requests()} == {f"Bearer {SECRET}"}
    assert len(upstream.requests()) == 48


def test_token_is_renewed(upstream: FakeUpstream, identity: Identity) -> None:
    upstream.override(lambda request: Response(200, {"id": "thread_a"}))
    names = iter(["one", "two"])
    identity.server.override(lambda request: token_response(next(names), lasts=200))
    client = Client(conf.connection("default"))
    client.retrieve_thread("thread_a")
    client.retrieve_thread("thread_a")
    refuse_connections(identity)
    client.retrieve_thread("thread_a")
    sent = [request.headers["Authorization"] for request in upstream.requests()]
    assert sent == ["Bearer one", "Bearer two", "Bearer two"]


def test_late_token_is_used(upstream: FakeUpstream, identity: Identity) -> None:
    upstream.override(lambda request: Response(200, {"id": "thread_a"}))
    resume = threading.Event()

    def late(request: Request) -> Response:
        resume.wait(10)
        return token_response()

    identity.server.override(late)
    client = Client(conf.connection("default"))
    for _ in range(2):
        with pytest.raises(ConnectionHeld, match="took too long"):
            client.retrieve_thread("thread_a")
    resume.set()
    client.retrieve_thread("thread_a")
    assert len(identity.scopes) == 1


def test_token_is_masked(upstream: FakeUpstream, identity: Identity) -> None:
    upstream.override(lambda request: Response(401, {"error": request.headers["Authorization"]}))
    with pytest.raises(ConnectionHeld, match=r"^Bearer \[our key\]$"):
        Client(conf.connection("default")).retrieve_thread("thread_a")


@pytest.mark.parametrize("name", ["azure.identity", "azure.core.pipeline.policies.http_logging_policy", "msal"])
def test_azure_libraries_log_only_errors(name: str) -> None:
    levels: Any = project_settings.LOGGING["loggers"]
    assert levels[name.partition(".")[0]] == {"level": "ERROR"}


REQUEST_IDS = {
    "x-request-id": ({"x-request-id": "a", "apim-request-id": "b"}, "a"),
    "apim-request-id": ({"apim-request-id": "b", "x-ms-request-id": "c"}, "b"),
    "empty x-request-id": ({"x-request-id": " ", "apim-request-id": "b"}, "b"),
    "x-ms-request-id": ({"x-ms-request-id": "c"}, "c"),
    "request-id": ({"request-id": "d"}, "d"),
    "x-correlation-id": ({"X-Correlation-ID": "e"}, "e"),
    "too long": ({"apim-request-id": "f" * 300}, "f" * 256),
    "none": ({}, ""),
}


@pytest.mark.parametrize(("headers", "request_id"), REQUEST_IDS.values(), ids=REQUEST_IDS)
def test_request_id_is_in_one_of_many_headers(upstream: FakeUpstream, headers: dict[str, str], request_id: str) -> None:
    upstream.override(lambda request: Response(200, {"id": "thread_a"}, headers))
    assert Client(conf.connection("default")).retrieve_thread("thread_a").request_id == request_id
    upstream.override(lambda request: Response(422, b"No.", headers))
    with pytest.raises(Rejected) as caught:
        Client(conf.connection("default")).retrieve_thread("thread_a")
    assert caught.value.request_id == request_id
