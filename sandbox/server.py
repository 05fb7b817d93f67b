"""Listens and serves until it is stopped."""

import asyncio
import signal
import socket

from sandbox.connection import Connection
from sandbox.lifecycle import advance_runs
from sandbox.sandbox import Sandbox


def listen(host: str, port: int) -> socket.socket:
    """Binds immediately, so that a port in use is reported before anything else is done. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=1024)


async def serve(sandbox: Sandbox, listening: socket.socket) -> None:
    """Serves until SIGTERM or SIGINT. Requests that are still waiting at that time get no response."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(lambda: Connection(sandbox), sock=listening, backlog=1024)
    advancing = loop.create_task(advance_runs(sandbox))
    host, port = listening.getsockname()[:2]
    print(f"sandbox listening on http://{f'[{host}]' if ':' in host else host}:{port}/v1", flush=True)
    await stop.wait()
    server.close()
    advancing.cancel()
