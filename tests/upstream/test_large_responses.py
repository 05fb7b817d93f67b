"""An oversized response is not read completely, with or without a Content-Length."""

from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest
from pytest_django import Settings

from runsadmin import conf
from runsadmin.errors import NotSent
from runsadmin.upstream.client import Client
from runsadmin.upstream.status_codes import NoResponse
from tests.conftest import Connect

ALLOWED = 1_000_000
OFFERED = 100 * ALLOWED
BLOCK = b"x" * 50_000


class Upstream(ThreadingHTTPServer):
    """Sends a very large response until the client disconnects. The path says how the response ends."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.sent = 0
        self.has_ended = Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_GET(self) -> None:
        framing = self.path.split("/")[1]
        self.send_response(200)
        if framing == "Content-Length":
            self.send_header("Content-Length", str(OFFERED))
        elif framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        with suppress(ConnectionError):
            for _ in range(OFFERED // len(BLOCK)):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(BLOCK), BLOCK) if framing == "chunked" else BLOCK)
                self.server.sent += len(BLOCK)
        self.server.has_ended.set()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        serving = Thread(target=upstream.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        yield upstream
        upstream.shutdown()
        serving.join()


@pytest.mark.parametrize("framing", ["Content-Length", "chunked", "connection close"])
def test_large_response_is_not_read_completely(
    framing: str, upstream: Upstream, connect: Connect, settings: Settings
) -> None:
    settings.RUNSADMIN_MAX_RESPONSE_BYTES = ALLOWED
    connect(URL=f"http://127.0.0.1:{upstream.server_port}/{framing.replace(' ', '-')}")
    with pytest.raises(NotSent, match=NoResponse.TOO_LARGE):
        Client(conf.connection("default")).retrieve_run("thread_a", "run_a")
    assert upstream.has_ended.wait(30)
    assert upstream.sent < OFFERED / 2, "Except for a few megabytes in buffers, the rest must not be read."
