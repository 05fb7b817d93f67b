"""Servers that misbehave at random, in ways that real servers do. Each seed makes one server.

After a POST with a 2xx response, the run has the new metadata. Everything else in a response can be wrong.
"""

import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fake_upstream import CUT, FakeUpstream, Json, Request, Response, list_response, not_found
from tests.sandbox_client import make_run

type Distortion = Callable[[random.Random, Json], Json]

TIMEOUT = 0.4  # Seconds, for connecting as well as for reading.
SLOW = 1.0  # Seconds, longer than both timeouts together.


class Slow(Response):
    """The request is handled at once, but the response arrives after the timeout."""


# --- What can be wrong with a run


def _without(*names: str) -> Distortion:
    return lambda rng, run: {name: value for name, value in run.items() if name not in names}


def _with(**fields: object) -> Distortion:
    return lambda rng, run: run | fields


def _renamed(rng: random.Random, run: Json) -> Json:
    return {"metadata_" if name == "metadata" else name: value for name, value in run.items()}


def _part(rng: random.Random, run: Json) -> Json:
    return {name: run[name] for name in ("id", "metadata")}


def _strange_times(rng: random.Random, run: Json) -> Json:
    created = run["created_at"]
    times = [created * 1000, created * 10**6, str(created), "2026-01-02T03:04:05Z", "soon", 0, -1, None, 1e300]
    return run | {"created_at": rng.choice(times), "completed_at": rng.choice(times)}


def _strange_usage(rng: random.Random, run: Json) -> Json:
    total = rng.choice([12.0, "12", float("nan"), 10**70, -1])
    return run | {"usage": rng.choice([{"total_tokens": total}, total])}


def _strange_text(rng: random.Random, run: Json) -> Json:
    words = ["half an emoji \ud83d", "U+0000 \0", "x" * 3000, "<script>"]
    return run | {"last_error": {"code": rng.choice(words), "message": rng.choice(words)}, "model": rng.choice(words)}


HARMLESS: dict[str, Distortion] = {
    "times": _strange_times,
    "usage": _strange_usage,
    "text": _strange_text,
    "thread_id null": _with(thread_id=None),
    "metadata_": _renamed,
}
HIDING: dict[str, Distortion] = {
    "metadata absent": _without("metadata"),
    "metadata as text": lambda rng, run: run | {"metadata": json.dumps(run["metadata"])},
    "metadata a number": _with(metadata=7),
    "metadata unreadable": lambda rng, run: run | {"metadata": run["metadata"] | {"n": float("inf")}},
}
PARTIAL: dict[str, Distortion] = {"part of a run": _part}

# --- What can be wrong with a response


def _encoded(rng: random.Random, response: Response) -> Response:
    text = json.dumps(response.body)
    match rng.randrange(4):
        case 0:
            return Response(response.status, b"\xef\xbb\xbf" + text.encode())
        case 1:
            header = {"Content-Type": "application/json; charset=utf-16"}
            return Response(response.status, text.encode("utf-16"), header)
        case 2:
            return Response(response.status, text[: len(text) // 2])
        case _:
            return Response(response.status, b"\xff\xfe\xfd" + text.encode())


def _error(rng: random.Random, statuses: list[int]) -> Response:
    status = rng.choice(statuses)
    bodies: list[Any] = [
        b"", "<html><title>Oops</title></html>", {"error": "no"}, {"detail": [{"loc": ["x"], "msg": "no"}]},
        {"message": "half \ud83d"}, {"error": {"message": "No\0pe"}}, "\xff",
    ]  # fmt: skip
    headers = {"Location": "https://elsewhere.example/"} if 300 <= status < 400 else {}
    if status in (429, 503) and rng.random() < 0.5:
        headers["Retry-After"] = "0"
    return Response(status, rng.choice(bodies), headers)


@dataclass
class RandomServer:
    """Makes a FakeUpstream misbehave at random. `listed` has the ids in its lists since the test cleared `listed`."""

    upstream: FakeUpstream
    seed: int
    rate: float = 0.4
    listed: set[str] = field(default_factory=set)
    history: dict[str, list[Json]] = field(default_factory=dict)
    threads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.is_correct = False
        self.previous: dict[str, Json] = {}
        self.upstream.clear_overrides()
        self.upstream.runs.clear()
        self.upstream.log.clear()
        for number in range(self.rng.randint(1, 3)):
            thread_id = f"thread_{self.seed}_{number}"
            self.threads.append(thread_id)
            for index in range(self.rng.randint(1, 6)):
                run = make_run(
                    id=f"run_{self.seed}_{number}_{index}",
                    thread_id=thread_id,
                    created_at=1_700_000_000 + index,
                    metadata={"owner": "lee", "team": self.rng.choice(["blue", "green"])},
                )
                self.upstream.put(run)
                self.history[run["id"]] = [dict(run["metadata"])]
        self.upstream.override(self.respond)

    # --- Another client

    def write(self, run_id: str, pairs: Mapping[str, str]) -> None:
        """Sets pairs, as another client does."""
        with self.upstream.lock:
            self._set(run_id, self.upstream.runs[run_id]["metadata"] | dict(pairs))

    def _set(self, run_id: str, metadata: Json) -> None:
        run = self.upstream.runs[run_id]
        self.previous[run_id] = dict(run)
        self.upstream.runs[run_id] = run | {"metadata": metadata}
        self.history[run_id].append(dict(metadata))

    # --- Responses

    def respond(self, request: Request) -> Response:
        response = self._respond(request)
        if isinstance(response, Slow):
            time.sleep(SLOW)
        return response

    def _respond(self, request: Request) -> Response:
        with self.upstream.lock:
            misbehaves = not self.is_correct and self.rng.random() < self.rate
            if request.is_list:
                return self._list(request, misbehaves)
            if len(request.parts) == 4:
                return (self._write if request.is_write else self._fetch)(request, misbehaves)
            return self._any_error() if misbehaves and self.rng.random() < 0.5 else self.upstream.default(request)

    def _any_error(self) -> Response:
        return _error(self.rng, [400, 401, 403, 404, 408, 409, 410, 429, 500, 502, 503, 504, 301, 302, 307])

    def _run(self, request: Request) -> Json | None:
        run = self.upstream.runs.get(request.parts[3])
        return run if run is not None and run["thread_id"] == request.parts[1] else None

    def _fetch(self, request: Request, misbehaves: bool) -> Response:
        run = self._run(request)
        if run is None:
            return not_found("run", request.parts[3])
        if not misbehaves:
            return Response(200, dict(run))
        match self.rng.randrange(10):
            case 0 | 1 | 2:
                return self._any_error()
            case 3:
                return CUT
            case 4:
                return _encoded(self.rng, Response(200, dict(run)))
            case 5 if self.rng.random() < 0.2:
                return Slow(200, dict(run))
            case _:
                return Response(200, self._distorted(run))

    def _write(self, request: Request, misbehaves: bool) -> Response:
        run = self._run(request)
        if run is None:
            return not_found("run", request.parts[3])
        metadata = request.json["metadata"]
        if not misbehaves:
            self._set(run["id"], metadata)
            return Response(200, dict(self.upstream.runs[run["id"]]))
        match self.rng.randrange(8):
            case 0:  # A refusal: nothing is kept.
                return _error(self.rng, [400, 401, 403, 404, 408, 409, 422, 429, 307, 308])
            case 1:
                self._keep_half_the_time(run, metadata)
                return _error(self.rng, [500, 502, 503, 504, 301, 302, 303])
            case 2:
                self._keep_half_the_time(run, metadata)
                return CUT
            case 3 if self.rng.random() < 0.2:
                self._keep_half_the_time(run, metadata)
                return Slow(200, {})
            case 4:
                self._set(run["id"], metadata)
                return _encoded(self.rng, Response(200, dict(self.upstream.runs[run["id"]])))
            case _:
                self._set(run["id"], metadata)
                return Response(self.rng.choice([200, 201]), self._distorted(self.upstream.runs[run["id"]], PARTIAL))

    def _keep_half_the_time(self, run: Json, metadata: Json) -> None:
        if self.rng.random() < 0.5:
            self._set(run["id"], metadata)

    def _distorted(self, run: Json, more: Mapping[str, Distortion] | None = None) -> Json:
        distortions = HARMLESS | HIDING | dict(more or {})
        return distortions[self.rng.choice(sorted(distortions))](self.rng, dict(run))

    def _list(self, request: Request, misbehaves: bool) -> Response:
        thread_id = request.parts[1]
        if not self.upstream.in_thread(thread_id):
            return not_found("thread", thread_id)
        query = dict(request.query)
        if misbehaves:
            match self.rng.randrange(10):
                case 0 | 1:
                    return self._any_error()
                case 2:
                    return CUT
                case 3:
                    query["limit"] = "2"
                case 4:
                    query.pop("after", None)
                case 5:
                    query["order"] = "asc"
                case 6:
                    return _encoded(self.rng, self._page(query, thread_id))
        response = self._page(query, thread_id)
        if misbehaves:
            runs = [
                self._stale(run) if self.rng.random() < 0.5 else self._distorted(run) for run in response.body["data"]
            ]
            response = list_response(runs, has_more=self.rng.random() < 0.5)
        self.listed.update(run["id"] for run in response.body["data"])
        return response

    def _page(self, query: Mapping[str, str], thread_id: str) -> Response:
        return self.upstream.page(thread_id, query)

    def _stale(self, run: Json) -> Json:
        """The run as it was before the last write."""
        return self.previous.get(run["id"], run)
