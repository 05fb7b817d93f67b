"""Bodies that are too large are refused without taking memory, from clients and from upstreams."""

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
TEN = 10 * MEGABYTE


def memory(site: Site) -> int:
    """Bytes in use by the web server's processes."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in site.pids)
    return pages * resource.getpagesize()


def send(site: Site, path: str, size: int, *, chunked: bool = False, **headers: str) -> tuple[int, bytes]:
    """POSTs this many bytes, or as many as are taken; returns the response, which may come before the end."""
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
        pass  # It closed the connection before the rest.
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


@pytest.mark.django_db(transaction=True)
def test_large_bodies_take_no_memory(site: Site, alice: User) -> None:
    token = {"Authorization": f"Token {tokens.create(user=alice, expires_in=None)}"}
    ways: list[tuple[str, dict[str, Any]]] = [
        ("/api/v1/threads/", token),
        ("/api/v1/threads/", {"chunked": True, **token}),
        ("/api/v1/bulk-edits/", token),
        ("/admin/login/", {}),
        ("/admin/runsadmin/thread/add/", {"chunked": True}),
    ]
    for path, options in ways:
        status, content = send(site, path, TEN, **options)
        assert status == 413
        assert (b"urn:runsadmin:problem:body-too-large" in content) == path.startswith("/api/")

    def burst() -> int:
        """400 MB at once; returns the peak memory meanwhile."""
        threads = [Thread(target=send, args=(site, path, TEN), kwargs=options) for path, options in ways * 8]
        for thread in threads:
            thread.start()
        most = 0
        while any(thread.is_alive() for thread in threads):
            most = max(most, memory(site))
            time.sleep(0.01)
        return most

    # Each thread holds a request in flight, and the allocator varies by as much again. Memory does not keep growing:
    # 3.2 GB are sent here, and after fourteen such bursts it was the same as after four.
    before = memory(site)
    assert max(burst() for _ in range(8)) - before < 200 * MEGABYTE


@pytest.mark.django_db(transaction=True)
def test_small_body_may_come_in_chunks(site: Site, alice: User) -> None:
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
def test_upload_counts_like_any_body(root: User, client: Client) -> None:
    client.force_login(root)
    file = SimpleUploadedFile("threads.csv", b"a" * 3 * MEGABYTE)
    refused = client.post("/admin/runsadmin/thread/add/", {"file": file})
    assert refused.status_code == 413
    assert "larger than this site accepts" in refused.content.decode()


@pytest.mark.django_db(transaction=True)
def test_large_response_takes_no_memory(
    site: Site, sandbox: Sandbox, mirror_run: Callable[..., Run], alice: User
) -> None:
    mirror_run(id="run_a", metadata={"team": "blue"})
    headers = {"Authorization": f"Token {tokens.create(user=alice, expires_in=None)}"}
    sandbox.fault("huge", bytes=TEN, method="GET", times=None)

    def refused(count: int) -> None:
        def refresh(_: int) -> requests.Response:
            return site.browser().post("/api/v1/runs/run_a/refresh/", headers=headers, json={})

        with ThreadPoolExecutor(4) as pool:
            for response in pool.map(refresh, range(count)):
                assert response.status_code == 424
                assert response.json()["detail"].startswith(NoResponse.TOO_LARGE)

    refused(20)  # Each thread of the server keeps the memory that it once needed: by now all of them have it.
    before = memory(site)
    refused(20)
    sent, grown = 20 * TEN, memory(site) - before
    assert grown < sent / 4, f"{sent:,} bytes were refused, and {grown:,} are in memory."
    assert Run.objects.get().metadata == {"team": "blue"}
