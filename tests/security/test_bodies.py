"""Oversized bodies, of requests and of upstream responses, are refused without reading them into memory."""

import http.client
import resource
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from runsadmin.models import Run
from runsadmin.services import tokens
from runsadmin.upstream.status_codes import NoResponse
from tests.sandbox_client import Sandbox
from tests.security.conftest import Site

MEGABYTE = 1_000_000
TEN_MEGABYTES = 10 * MEGABYTE


def memory(site: Site) -> int:
    """The bytes that the web server's processes use."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in site.pids)
    return pages * resource.getpagesize()


def send(site: Site, path: str, size: int, *, chunked: bool = False, **headers: str) -> tuple[int, bytes]:
    """POSTs this many bytes, or fewer if the server closes the connection.

    Returns the status and body of the response.
    """
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
    connection.putrequest("POST", path)
    length = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(size))
    for name, value in [length, ("Content-Type", "application/json"), *headers.items()]:
        connection.putheader(name, value)
    connection.endheaders()
    block = b"a" * 50_000
    try:
        for _ in range(size // len(block)):
            connection.send(b"%x\r\n%s\r\n" % (len(block), block) if chunked else block)
        connection.send(b"0\r\n\r\n" if chunked else b"")
    except (BrokenPipeError, ConnectionResetError):
        pass  # The server has closed the connection.
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


@pytest.mark.django_db(transaction=True)
def test_large_bodies_are_not_kept_in_memory(site: Site, alice: User) -> None:
    token = {"Authorization": f"Token {tokens.create(user=alice, expires_in=None)}"}
    posts: list[tuple[str, dict[str, Any]]] = [
        ("/api/v1/threads/", token),
        ("/api/v1/threads/", {"chunked": True, **token}),
        ("/api/v1/bulk-edits/", token),
        ("/admin/login/", {}),
        ("/admin/runsadmin/thread/add/", {"chunked": True}),
    ]
    for path, options in posts:
        status, content = send(site, path, TEN_MEGABYTES, **options)
        assert status == 413
        assert (b"urn:runsadmin:problem:body-too-large" in content) == path.startswith("/api/")

    def burst() -> int:
        """Sends 400 MB at once. Returns the server's peak memory use during that time."""
        threads = [Thread(target=send, args=(site, path, TEN_MEGABYTES), kwargs=options) for path, options in posts * 8]
        for thread in threads:
            thread.start()
        peak = 0
        while any(thread.is_alive() for thread in threads):
            peak = max(peak, memory(site))
            time.sleep(0.01)
        return peak

    # The server's threads hold the requests in flight, and the allocator adds about as much. Memory does not keep
    # growing: after 14 bursts it was the same as after 4.
    before = memory(site)
    assert max(burst() for _ in range(8)) - before < 200 * MEGABYTE


@pytest.mark.django_db(transaction=True)
def test_small_body_can_be_chunked(site: Site, alice: User) -> None:
    token = {"Authorization": f"Token {tokens.create(user=alice, expires_in=None)}"}
    chunks = iter([b'{"thread_id": ', b'"thread_a"}'])
    response = site.browser().post("/api/v1/threads/", chunks, headers=token | {"Content-Type": "application/json"})
    assert response.status_code == 201


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("length", ["-1", "ten", "99999999999999999999", "1e3", "٣"])
def test_invalid_length_is_refused(site: Site, length: str) -> None:
    with socket.create_connection(("127.0.0.1", site.port)) as connection:
        head = (
            f"POST /admin/login/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )
        connection.sendall(head.encode())
        assert connection.recv(100).split()[1] in (b"400", b"413")


@pytest.mark.django_db
def test_oversized_upload_is_refused(root: User, client: Client) -> None:
    client.force_login(root)
    file = SimpleUploadedFile("threads.csv", b"a" * 3 * MEGABYTE)
    refused = client.post("/admin/runsadmin/thread/add/", {"file": file})
    assert refused.status_code == 413
    assert "larger than this site accepts" in refused.content.decode()


@pytest.mark.django_db(transaction=True)
def test_large_response_is_not_kept_in_memory(
    site: Site, sandbox: Sandbox, mirror_run: Callable[..., Run], alice: User
) -> None:
    mirror_run(id="run_a", metadata={"team": "blue"})
    headers = {"Authorization": f"Token {tokens.create(user=alice, expires_in=None)}"}
    sandbox.fault("huge", bytes=TEN_MEGABYTES, method="GET", times=None)

    def refresh_repeatedly(count: int) -> None:
        def refresh(_: int) -> requests.Response:
            return site.browser().post("/api/v1/runs/run_a/refresh/", headers=headers, json={})

        with ThreadPoolExecutor(4) as pool:
            for response in pool.map(refresh, range(count)):
                assert response.status_code == 424
                assert response.json()["detail"].startswith(NoResponse.TOO_LARGE)

    refresh_repeatedly(20)  # The first requests grow the memory that each server thread keeps.
    before = memory(site)
    refresh_repeatedly(20)
    refused, grown = 20 * TEN_MEGABYTES, memory(site) - before
    assert grown < refused / 4, f"{refused:,} bytes were refused, but memory grew by {grown:,} bytes."
    assert Run.objects.get().metadata == {"team": "blue"}
