"""One process of the web server: accepts connections, and lets threads run the application for complete requests."""

import os
import time
from typing import Any

from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

from project.web.channel import Channel

# In each process. When there are more connections, the one that has waited for its client for the longest is closed.
MAX_CONNECTIONS = 400
# In bytes, in each process: responses that clients have not read yet. They are kept in temporary files if large.
MAX_UNREAD = 256 * 1024 * 1024
# In seconds: how long requests may take to end after SIGTERM.
GRACE = 4.0
PROBES = ("/livez", "/readyz")

OPTIONS: dict[str, Any] = {
    "ident": None,  # Responses do not name the server.
    "asyncore_use_poll": True,  # select() is limited to 1,024 descriptors.
    "cleanup_interval": 1,
    "connection_limit": MAX_CONNECTIONS + 50,
    "max_request_header_size": 65_536,
    "max_request_body_size": 1 << 62,  # project.web.channel.Request has limits for each path.
    "outbuf_high_watermark": 64 * 1024 * 1024,
    "log_socket_errors": False,
    # project.login_throttle reads X-Forwarded-For, and Django reads X-Forwarded-Proto.
    "clear_untrusted_proxy_headers": False,
}


def dispatcher(threads: int) -> ThreadedTaskDispatcher:
    tasks = ThreadedTaskDispatcher()
    tasks.set_thread_count(threads)
    return tasks


class Server(TcpWSGIServer):  # type: ignore[misc] # The package has no types.
    channel_class = Channel

    def __init__(self, *args: Any, **options: Any) -> None:
        # Threads of their own, so that the probes respond even if all other threads are busy.
        self.probes = {path: dispatcher(1) for path in PROBES}
        self.stops_at = float("inf")
        self.parent = os.getppid()
        super().__init__(*args, **options)

    def add_task(self, channel: Channel) -> None:
        path = getattr(channel.requests[0], "path", "")
        self.probes.get(path, self.task_dispatcher).add_task(channel)

    def handle_accept(self) -> None:
        if len(self.active_channels) >= MAX_CONNECTIONS:
            waiting = [channel for channel in self.active_channels.values() if not channel.requests]
            if waiting:
                min(waiting, key=lambda channel: channel.waits_since).handle_close()
        super().handle_accept()

    def maintenance(self, now: float) -> None:
        if os.getppid() != self.parent:
            self.stop()
        channels = list(self.active_channels.values())
        for channel in channels:
            if channel.is_too_slow:
                channel.will_close = True
        unread = sum(channel.total_outbufs_len for channel in channels)
        if unread > MAX_UNREAD:
            max(channels, key=lambda channel: channel.total_outbufs_len).will_close = True

    def stop(self) -> None:
        """Accepts no more connections, and lets `run` return when the requests in flight have ended."""
        self.stops_at = min(self.stops_at, time.monotonic() + GRACE)
        self.pull_trigger()

    def run(self) -> None:
        while not self._has_ended():
            self.asyncore.loop(timeout=1, map=self._map, use_poll=True, count=1)

    def _has_ended(self) -> bool:
        if self.stops_at == float("inf"):
            return False
        self.accepting = False
        busy = [c for c in self.active_channels.values() if c.requests or c.total_outbufs_len]
        return not busy or time.monotonic() > self.stops_at
