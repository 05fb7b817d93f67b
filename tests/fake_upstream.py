"""A small upstream inside the test process, for behavior that the sandbox does not offer.

By default it is a correct server: it lists, retrieves and modifies runs, and replaces metadata. A test replaces single
responses with `override`, which gets each request first.

    upstream = FakeUpstream()
    upstream.put(make_run(id="run_a", metadata={"ticket": "1"}))
    upstream.override(lambda request: Response(500) if request.method == "POST" else None)
"""

import json
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

type Json = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """`path` is the path below the base URL, as it was sent; `parts` are its decoded segments."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(unquote(part) for part in self.path.strip("/").split("/"))

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def is_list(self) -> bool:
        """GET /threads/{t}/runs"""
        return self.method == "GET" and len(self.parts) == 3

    @property
    def is_fetch(self) -> bool:
        """GET /threads/{t}/runs/{r}"""
        return self.method == "GET" and len(self.parts) == 4

    @property
    def is_write(self) -> bool:
        return self.method == "POST"


@dataclass
class Response:
    """`body` is sent unchanged if it is bytes or text, otherwise as JSON. `cut` closes the connection instead."""

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


CUT = Response(cut=True)

type Override = Callable[[Request], Response | None]


class FakeUpstream:
    """`url` is the base URL. `log` has every request with its response, oldest first."""

    def __init__(self) -> None:
        self.runs: dict[str, Json] = {}
        self.log: list[tuple[Request, Response]] = []
        self.lock = threading.RLock()
        self._overrides: list[Override] = []
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Closes all connections, and refuses new ones from now on."""
        self._server.shutdown()
        self._server.server_close()
        self._server.close_connections()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- Content

    def put(self, *runs: Json) -> None:
        with self.lock:
            self.runs |= {run["id"]: run for run in runs}

    def metadata(self, run_id: str) -> Any:
        with self.lock:
            return self.runs[run_id]["metadata"]

    def in_thread(self, thread_id: str, *, order: str = "desc") -> list[Json]:
        with self.lock:
            runs = [run for run in self.runs.values() if run["thread_id"] == thread_id]
        runs.sort(key=lambda run: (run["created_at"], run["id"]))
        return runs[::-1] if order == "desc" else runs

    # --- Responses

    def override(self, override: Override) -> None:
        """The newest override is called first; if it returns None, the next one is called."""
        self._overrides.insert(0, override)

    def clear_overrides(self) -> None:
        self._overrides.clear()

    def respond(self, request: Request) -> Response:
        response = next((found for override in self._overrides if (found := override(request)) is not None), None)
        if response is None:
            response = self.default(request)
        with self.lock:
            self.log.append((request, response))
        return response

    def default(self, request: Request) -> Response:
        """The response of a correct server."""
        match request.parts:
            case ("threads", thread_id) if request.method == "GET":
                if self.in_thread(thread_id):
                    return Response(200, {"id": thread_id, "object": "thread", "created_at": 1, "metadata": {}})
                return not_found("thread", thread_id)
            case ("threads", thread_id, "runs") if request.method == "GET":
                return self.page(thread_id, request.query)
            case ("threads", thread_id, "runs", run_id):
                with self.lock:
                    run = self.runs.get(run_id)
                    if run is None or run["thread_id"] != thread_id:
                        return not_found("run", run_id)
                    if request.is_write:
                        run["metadata"] = request.json["metadata"]
                    return Response(200, dict(run))
            case _:
                return not_found("path", request.path)

    def page(self, thread_id: str, query: Mapping[str, str]) -> Response:
        runs = self.in_thread(thread_id, order=query.get("order", "desc"))
        if not runs:
            return not_found("thread", thread_id)
        ids = [run["id"] for run in runs]
        start = ids.index(query["after"]) + 1 if query.get("after") in ids else 0
        limit = int(query.get("limit", "20"))
        return list_response(runs[start : start + limit], has_more=start + limit < len(runs))

    # --- Requests

    def requests(self, method: str | None = None) -> list[Request]:
        with self.lock:
            return [request for request, _ in self.log if method in (None, request.method)]

    @property
    def writes(self) -> list[Request]:
        return self.requests("POST")


def list_response(runs: list[Json], *, has_more: bool = False) -> Response:
    ids = [run.get("id") for run in runs]
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    body = {"object": "list", "data": runs, "first_id": first, "last_id": last, "has_more": has_more}
    return Response(200, body)


def not_found(kind: str, name: str) -> Response:
    return error_response(404, f"No {kind} found with id '{name}'.")


def error_response(status: int, message: str) -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return Response(status, {"error": error})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that disconnects is not an error."""


def _handler(upstream: FakeUpstream) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def handle_request(self) -> None:
            split = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = split.path.removeprefix("/v1")
            request = Request(self.command, path, dict(parse_qsl(split.query)), dict(self.headers), body)
            response = upstream.respond(request)
            if response.cut:
                self.close_connection = True
                return
            content = response.content
            self.send_response(response.status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(content))} | dict(response.headers)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = handle_request  # noqa: N815

        def log_message(self, *args: Any) -> None:
            """Prints nothing, because `upstream.log` has all requests."""

    return Handler
