"""Incomplete responses and broken connections: a status that was received is used."""

import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runsadmin import conf
from runsadmin.errors import ConnectionHeld, Forbidden, NotFound, NotSent, OutcomeUnknown, Rejected, UpstreamError
from runsadmin.upstream.client import Client
from tests.conftest import Connect
from tests.fake_upstream import FakeUpstream, Response

INCOMPLETE: dict[str, dict[str, str]] = {
    "truncated body": {"Content-Length": "1000", "Connection": "close"},
    "wrong content encoding": {"Content-Encoding": "gzip"},
    "invalid content length": {"Content-Length": "9" * 5000, "Connection": "close"},
}


def error_of_write(alias: str = "default") -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        Client(conf.connection(alias)).modify_run("thread_a", "run_a", {"team": "red"})
    return caught.value


@pytest.mark.parametrize("headers", INCOMPLETE.values(), ids=INCOMPLETE)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, ConnectionHeld),
        (403, Forbidden),
        (404, NotFound),
        (422, Rejected),
        (429, NotSent),
        (307, ConnectionHeld),
        (500, OutcomeUnknown),
    ],
)
def test_status_of_incomplete_response_is_used(
    upstream: FakeUpstream, headers: dict[str, str], status: int, kind: type[UpstreamError]
) -> None:
    upstream.override(lambda request: Response(status, b'{"error": "No."}', headers))
    error = error_of_write()
    assert (type(error), error.http_status) == (kind, status)


@pytest.mark.parametrize("headers", INCOMPLETE.values(), ids=INCOMPLETE)
def test_incomplete_2xx_is_unknown(upstream: FakeUpstream, headers: dict[str, str]) -> None:
    upstream.override(lambda request: Response(200, b'{"id": "run_a"', headers))
    assert isinstance(error_of_write(), OutcomeUnknown)


@pytest.mark.parametrize(
    "body",
    [
        b"<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>",
        b"Client sent an HTTP request to an HTTPS server.\n",
        b'{"message": "HTTP is not served here, use TLS"}',
    ],
    ids=["nginx", "Go", "JSON"],
)
def test_http_url_of_https_server_is_a_hold(upstream: FakeUpstream, body: bytes) -> None:
    upstream.override(lambda request: Response(400, body))
    error = error_of_write()
    assert type(error) is ConnectionHeld
    assert str(error).endswith("Check RUNSADMIN_UPSTREAM_URL: it must begin with https.")


def test_https_url_of_http_server_sends_nothing(upstream: FakeUpstream, connect: Connect) -> None:
    connect(URL=upstream.url.replace("http:", "https:"))
    assert isinstance(error_of_write(), NotSent)


@pytest.fixture(scope="module")
def certificate_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1, in one file."""
    assert shutil.which("openssl"), "This test creates a certificate. Install the package openssl."
    folder = tmp_path_factory.mktemp("tls")
    key, certificate, both = folder / "key.pem", folder / "certificate.pem", folder / "both.pem"
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    command = ["openssl", "req", "-x509", *options, *names, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    both.write_text(key.read_text() + certificate.read_text())
    return both


@pytest.fixture
def breaking_tls_port(certificate_file: Path) -> Iterator[int]:
    """The port of a TLS server that reads a request and responds in plain text."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    accepted, _ = server.accept()
                except OSError:
                    return
                try:
                    secure = context.wrap_socket(accepted, server_side=True)
                except OSError:
                    continue
                secure.recv(65536)
                raw = secure.detach()
                os.write(raw, b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
                os.close(raw)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
    thread.join(0.1)


def test_untrusted_certificate_sends_nothing(breaking_tls_port: int, connect: Connect) -> None:
    connect(URL=f"https://127.0.0.1:{breaking_tls_port}/v1")
    assert isinstance(error_of_write(), NotSent)


def test_broken_tls_connection_is_unknown(
    breaking_tls_port: int, certificate_file: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate_file))
    connect(URL=f"https://127.0.0.1:{breaking_tls_port}/v1")
    assert isinstance(error_of_write(), OutcomeUnknown)
