"""`python -m project.web` as a process."""

import socket
import subprocess
import sys

from django.conf import settings


def test_port_in_use_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        stopped = subprocess.run(
            [sys.executable, "-m", "project.web", "--port", str(port)],
            cwd=settings.BASE_DIR, capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
    assert stopped.returncode == 1
    assert f"127.0.0.1:{port} cannot be used" in stopped.stderr
