"""One process of the web server: threads run the application, but only for requests that were received completely."""

import os
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

from project.web.channel import Channel

# In each process. If there are more, the connection that has waited for its client for the longest time is closed.
MAX_CONNECTIONS = 256
# In bytes, in each process: responses that clients have not read yet. Large ones are in temporary files.
MAX_UNREAD = 128 * 1024 * 1024
# In seconds: how often the connections are checked.
CHECK_EVERY = 1.0
# In seconds: how long requests may take to end after SIGTERM.
GRACE = 4.0

OPTIONS: dict[str, Any] = {
    "ident": None,  # Responses do not name the server.
    "asyncore_use_poll": True,  # select() is limited to 1,024 descriptors.
    "connection_limit": MAX_CONNECTIONS + 50,  # None is closed while all wait for the application.
    "max_request_header_size": 65_536,
    "max_request_body_size": 1 << 62,  # project.web.channel.Request has a limit for each path.
    "inbuf_overflow": 131_072,
    # A thread of a streamed response waits for its client only beyond this size.
    "outbuf_high_watermark": 16 * 1024 * 1024,
    "log_socket_errors": False,
    # Django reads X-Forwarded-Proto, and project.login_throttle reads X-Forwarded-For.
    "clear_untrusted_proxy_headers": False,
}


class Server(TcpWSGIServer):  # type: ignore[misc] # The package has no types.
    channel_class = Channel

    def __init__(
        self, application: Callable[..., Iterable[bytes]], listener: socket.socket, *, threads: int, parent: int
    ) -> None:
        self.parent = parent
        self.stops_at: float | None = None
        # Threads of their own, so that the probes respond even if all other threads are busy.
        self.probes = {"/livez": _dispatcher(1), "/readyz": _dispatcher(1)}
        super().__init__(
            application,
            _sock=listener,
            dispatcher=_dispatcher(threads),
            adj=Adjustments(sockets=[listener], **OPTIONS),
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            bind_socket=False,
        )

    def add_task(self, channel: Channel) -> None:
        request = channel.requests[0]
        if self.stops_at:
            request.headers["CONNECTION"] = "close"
        dispatcher = self.probes.get(getattr(request, "path", "")) or self.task_dispatcher
        dispatcher.add_task(channel)

    def handle_accept(self) -> None:
        # Accepts first: the descriptor of a closed connection must not be reused before its last events are dropped.
        super().handle_accept()
        if len(self.active_channels) > MAX_CONNECTIONS:
            waiting = [channel for channel in self.active_channels.values() if not channel.requests]
            if waiting:
                min(waiting, key=lambda channel: channel.waits_since).handle_close()

    def maintenance(self, now: float) -> None:
        """Does nothing: called in the middle of a poll, where the descriptor of a closed connection could be reused."""

    def _check(self) -> None:
        if os.getppid() != self.parent:
            self.stop()
        channels = list(self.active_channels.values())
        for channel in channels:
            if channel.is_too_slow:
                # waitress itself would wait until the client reads, which may be never.
                channel.handle_close()
        threads_wait = [channel for channel in channels if channel.connected and channel.thread_waits]
        if self.task_dispatcher.queue and len(threads_wait) > len(self.task_dispatcher.threads) // 2:
            min(threads_wait, key=lambda channel: channel.read_rate).handle_close()
        if sum(channel.unread for channel in channels) > MAX_UNREAD:
            max(channels, key=lambda channel: channel.unread).handle_close()

    def stop(self) -> None:
        """Accepts no more connections, and lets `run` return when the requests in flight have ended."""
        self.stops_at = self.stops_at or time.monotonic() + GRACE
        self.pull_trigger()

    def run(self) -> None:
        next_check = 0.0
        while not self._has_ended():
            self.asyncore.loop(timeout=1, map=self._map, use_poll=True, count=1)
            if time.monotonic() >= next_check:
                next_check = time.monotonic() + CHECK_EVERY
                self._check()

    def _has_ended(self) -> bool:
        if not self.stops_at:
            return False
        self.accepting = False
        for channel in list(self.active_channels.values()):
            if not channel.is_busy:
                channel.handle_close()
        return not self.active_channels or time.monotonic() > self.stops_at


def _dispatcher(threads: int) -> ThreadedTaskDispatcher:
    dispatcher = ThreadedTaskDispatcher()
    dispatcher.set_thread_count(threads)
    return dispatcher
