"""A fast upstream: serves the calls that an edit needs from memory, after a fixed latency.

Unlike the sandbox, it has no journal and no log, only counts, because it must never be the bottleneck. To start it:
`python -m bench.upstream --port PORT`.
"""

import argparse
import asyncio
from collections import Counter
from typing import Any, cast

import httptools
import orjson
import uvloop

_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_bench\r\ncontent-length: %d\r\n\r\n%b"
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class Upstream:
    def __init__(self, latency: float) -> None:
        self.latency = latency
        self.runs: dict[bytes, dict[str, Any]] = {}
        self.lists: dict[bytes, list[bytes]] = {}
        self.counts: Counter[str] = Counter()

    def seed(self, threads: int, runs_per_thread: int) -> None:
        """Creates runs, newest first, as in lists."""
        self.runs.clear()
        self.lists.clear()
        for t in range(threads):
            thread = f"thread_{t:06}"
            ids = [f"run_{t:06}_{r:04}" for r in range(runs_per_thread)]
            for age, id in enumerate(ids):
                self.runs[id.encode()] = build_run(thread, id, 1_760_000_000 - age)
            self.lists[thread.encode()] = [id.encode() for id in ids]

    def response(self, method: bytes, url: bytes, body: bytes) -> bytes:
        path, _, query = url.partition(b"?")
        parts = path.split(b"/")[2:]  # /v1/…
        match parts:
            case [b"_control", b"counts"]:
                return _ok(dict(self.counts))
            case [b"_control", b"forget"]:
                self.counts.clear()
                return _ok({})
            case [b"_control", b"runs"]:
                return _ok([run["metadata"] for run in self.runs.values()])
            case [b"_control", b"latency", milliseconds]:
                self.latency = int(milliseconds) / 1000
                return _ok({})
            case [b"_control", b"seed", threads, runs_per_thread]:
                self.counts.clear()
                self.seed(int(threads), int(runs_per_thread))
                return _ok({})
            case [b"threads", thread, b"runs"]:
                self.counts["list"] += 1
                return _ok(self._page(thread, query))
            case [b"threads", _, b"runs", id] if id in self.runs:
                run = self.runs[id]
                self.counts[method.decode()] += 1
                if method == b"POST":
                    run["metadata"] = orjson.loads(body)["metadata"]
                return _ok(run)
        return _NOT_FOUND

    def _page(self, thread: bytes, query: bytes) -> dict[str, Any]:
        options = dict(pair.split(b"=", 1) for pair in query.split(b"&") if b"=" in pair)
        ids = self.lists.get(thread, [])
        first = ids.index(options[b"after"]) + 1 if b"after" in options else 0
        page = ids[first : first + int(options.get(b"limit", b"20"))]
        return {
            "object": "list",
            "data": [self.runs[id] for id in page],
            "first_id": page[0].decode() if page else None,
            "last_id": page[-1].decode() if page else None,
            "has_more": first + len(page) < len(ids),
        }


def build_run(thread: str, id: str, created_at: int) -> dict[str, Any]:
    return {
        "id": id, "object": "thread.run", "created_at": created_at, "assistant_id": "asst_bench", "thread_id": thread,
        "status": "completed", "started_at": created_at + 1, "expires_at": None, "cancelled_at": None,
        "failed_at": None, "completed_at": created_at + 9, "required_action": None, "last_error": None,
        "model": "gpt-4o", "instructions": "Answer in one sentence.", "tools": [], "incomplete_details": None,
        "metadata": {"team": "search", "env": "prod", "ticket": id}, "temperature": 1.0, "top_p": 1.0,
        "usage": {"prompt_tokens": 123, "completion_tokens": 456, "total_tokens": 579},
        "max_prompt_tokens": None, "max_completion_tokens": None, "response_format": "auto", "tool_choice": "auto",
        "truncation_strategy": {"type": "auto", "last_messages": None}, "parallel_tool_calls": True,
    }  # fmt: skip


def _ok(value: object) -> bytes:
    body = orjson.dumps(value)
    return _OK % (len(body), body)


class _Connection(asyncio.Protocol):
    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.url, self.body = b"", b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        response = self.upstream.response(self.parser.get_method(), self.url, self.body)
        if self.upstream.latency and b"/_control/" not in self.url:
            self.loop.call_later(self.upstream.latency, self._write, response)
        else:
            self._write(response)

    def _write(self, response: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(response)


async def serve(port: int, latency: float) -> None:
    upstream = Upstream(latency)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(upstream), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bench.upstream", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.latency))
