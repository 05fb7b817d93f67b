"""The calls of the Assistants API: threads, runs and steps."""

import time
from collections.abc import Callable, Mapping

import orjson

from sandbox import refusals
from sandbox.identifiers import new_id
from sandbox.messages import Json, Request, Response
from sandbox.refusals import ApiError
from sandbox.sandbox import Sandbox
from sandbox.steps import steps_of
from sandbox.store import Record, Run, Thread, new_thread
from sandbox.timeline import Key, Timeline

type Call = Callable[..., Response]  # (sandbox, request, *ids in the path)

RUN_LIFETIME = 600  # Seconds after which a run expires.


def handle(sandbox: Sandbox, request: Request) -> Response:
    """Handles one call. Its changes are stored before this returns."""
    settings = sandbox.settings
    try:
        if settings.redirect_to is not None:
            return Response(302, b"", {"location": settings.redirect_to})
        if settings.not_found_for_all:
            raise refusals.unknown_url(request.method, request.path)
        check_key(sandbox, request)
        rate = settings.requests_per_minute
        if rate is not None and not sandbox.allowance.take(rate):
            raise refusals.too_many_requests(settings.retry_after)
        calls, ids = find(request, lists_threads=settings.lists_threads)
        call = calls.get(request.method)
        if call is None:
            raise refusals.wrong_method(request.method, request.path, ", ".join(calls))
        if request.body is None:
            raise refusals.too_large()
        return call(sandbox, request, *ids)
    except ApiError as error:
        return error.response()


def find(request: Request, *, lists_threads: bool) -> tuple[dict[str, Call], list[str]]:
    """The calls that exist at this path, by method, and the ids in it."""
    match request.parts:
        case ["v1", "threads"]:
            return ({"GET": list_threads} if lists_threads else {}) | {"POST": create_thread}, []
        case ["v1", "threads", "runs"]:
            return {"POST": create_thread_and_run}, []
        case ["v1", "threads", thread]:
            return {"GET": get_thread, "POST": modify_thread, "DELETE": delete_thread}, [thread]
        case ["v1", "threads", thread, "runs"]:
            return {"GET": list_runs, "POST": create_run}, [thread]
        case ["v1", "threads", thread, "runs", run]:
            return {"GET": get_run, "POST": modify_run}, [thread, run]
        case ["v1", "threads", thread, "runs", run, "cancel"]:
            return {"POST": cancel_run}, [thread, run]
        case ["v1", "threads", thread, "runs", run, "steps"]:
            return {"GET": list_steps}, [thread, run]
        case ["v1", "threads", thread, "runs", run, "steps", step]:
            return {"GET": get_step}, [thread, run, step]
    raise refusals.unknown_url(request.method, request.path)


def check_key(sandbox: Sandbox, request: Request) -> None:
    settings = sandbox.settings
    if settings.api_key is None:
        return
    if settings.auth == "api-key":
        key = request.headers.get("api-key", "")
    else:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        key = key.strip() if scheme.lower() == "bearer" else ""
    if not key:
        raise refusals.no_key(settings.auth)
    if key != settings.api_key:
        raise refusals.wrong_key()


# --- threads ------------------------------------------------------------------------------------------------------


CREATE_THREAD = frozenset({"messages", "metadata", "tool_resources"})


def list_threads(sandbox: Sandbox, request: Request) -> Response:
    return page(request, "thread", sandbox.store.timeline, sandbox.store.threads)


def create_thread(sandbox: Sandbox, request: Request) -> Response:
    thread = build_thread(sandbox, read(request, CREATE_THREAD))
    sandbox.store.put(threads=[thread])
    return Response.json(thread)


def build_thread(sandbox: Sandbox, body: Json) -> Json:
    thread = new_thread(new_id("thread"), time.time())
    thread["metadata"] = read_metadata(sandbox, body) or {}
    thread["tool_resources"] = body.get("tool_resources") or {}
    return thread


def get_thread(sandbox: Sandbox, request: Request, thread_id: str) -> Response:
    return Response(200, find_thread(sandbox, thread_id).body)


def modify_thread(sandbox: Sandbox, request: Request, thread_id: str) -> Response:
    body = read(request, frozenset({"metadata", "tool_resources"}))
    metadata = read_metadata(sandbox, body)
    thread = find_thread(sandbox, thread_id).load()
    if metadata is not None:
        thread["metadata"] = modified_metadata(sandbox, thread.get("metadata") or {}, metadata)
    if body.get("tool_resources") is not None:
        thread["tool_resources"] = body["tool_resources"]
    sandbox.store.put(threads=[thread])
    return Response.json(thread)


def delete_thread(sandbox: Sandbox, request: Request, thread_id: str) -> Response:
    find_thread(sandbox, thread_id)
    sandbox.store.remove_thread(thread_id)
    return Response.json({"id": thread_id, "object": "thread.deleted", "deleted": True})


# --- runs ---------------------------------------------------------------------------------------------------------

# The options of a run that are copied from the request, with their defaults.
RUN_OPTIONS: Json = {
    "model": "gpt-4o",
    "instructions": "",
    "tools": [],
    "temperature": 1.0,
    "top_p": 1.0,
    "max_prompt_tokens": None,
    "max_completion_tokens": None,
    "truncation_strategy": {"type": "auto", "last_messages": None},
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "response_format": "auto",
}
CREATE = frozenset(RUN_OPTIONS) | {"assistant_id", "metadata", "stream"}
CREATE_RUN = CREATE | {"additional_instructions", "additional_messages", "reasoning_effort"}
CREATE_THREAD_AND_RUN = CREATE | {"thread", "tool_resources"}


def list_runs(sandbox: Sandbox, request: Request, thread_id: str) -> Response:
    return page(request, "run", find_thread(sandbox, thread_id).runs, sandbox.store.runs)


def get_run(sandbox: Sandbox, request: Request, thread_id: str, run_id: str) -> Response:
    return Response(200, find_run(sandbox, thread_id, run_id).body)


def create_run(sandbox: Sandbox, request: Request, thread_id: str) -> Response:
    body = read(request, CREATE_RUN)
    run = build_run(sandbox, body, thread_id)
    find_thread(sandbox, thread_id)
    sandbox.store.put(runs=[run])
    return Response.json(run)


def create_thread_and_run(sandbox: Sandbox, request: Request) -> Response:
    """Creates both or neither. `metadata` is that of the run; that of the thread is in `thread`."""
    body = read(request, CREATE_THREAD_AND_RUN)
    thread_body = {} if body.get("thread") is None else body["thread"]
    if not isinstance(thread_body, dict):
        raise refusals.wrong_type("thread", "an object", thread_body)
    refusals.check_properties(thread_body, CREATE_THREAD, within="thread.")
    thread = build_thread(sandbox, thread_body)
    run = build_run(sandbox, body, thread["id"]) | {"tool_resources": body.get("tool_resources") or {}}
    sandbox.store.put(threads=[thread], runs=[run])
    return Response.json(run)


def build_run(sandbox: Sandbox, body: Json, thread_id: str) -> Json:
    if "assistant_id" not in body:
        raise refusals.missing("assistant_id")
    if not isinstance(body["assistant_id"], str):
        raise refusals.wrong_type("assistant_id", "a string", body["assistant_id"])
    if body.get("stream"):
        raise ApiError("The sandbox does not stream.", param="stream")
    for param in ("max_prompt_tokens", "max_completion_tokens"):
        if (value := body.get(param)) is not None:
            if type(value) is not int:
                raise refusals.wrong_type(param, "an integer", value)
            refusals.check_integer(param, value, minimum=256)
    metadata = read_metadata(sandbox, body)

    now = int(time.time())
    run: Json = {
        "id": new_id("run"),
        "object": "thread.run",
        "created_at": now,
        "thread_id": thread_id,
        "assistant_id": body["assistant_id"],
        "status": "queued",
        "required_action": None,
        "last_error": None,
        "expires_at": now + RUN_LIFETIME,
        "started_at": None,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "incomplete_details": None,
        "usage": None,
        "metadata": metadata or {},
    }
    return run | {name: default if body.get(name) is None else body[name] for name, default in RUN_OPTIONS.items()}


def modify_run(sandbox: Sandbox, request: Request, thread_id: str, run_id: str) -> Response:
    body = read(request, frozenset({"metadata"}))
    metadata = read_metadata(sandbox, body)
    record = find_run(sandbox, thread_id, run_id)
    if sandbox.settings.refuse_active and record.status in ("queued", "in_progress"):
        raise refusals.cannot("update", record.status)
    if metadata is None:
        return Response(200, record.body)
    run = record.load()
    run["metadata"] = modified_metadata(sandbox, run.get("metadata") or {}, metadata)
    sandbox.store.put(runs=[run])
    return Response(200, sandbox.store.runs[run_id].body)


def cancel_run(sandbox: Sandbox, request: Request, thread_id: str, run_id: str) -> Response:
    record = find_run(sandbox, thread_id, run_id)
    if record.status not in ("queued", "in_progress", "requires_action"):
        raise refusals.cannot("cancel", record.status)
    run = record.load() | {"status": "cancelling", "required_action": None}
    sandbox.store.put(runs=[run])
    return Response.json(run)


# --- steps --------------------------------------------------------------------------------------------------------


def list_steps(sandbox: Sandbox, request: Request, thread_id: str, run_id: str) -> Response:
    steps = steps_of(find_run(sandbox, thread_id, run_id).load())
    timeline, records = Timeline(), {}
    for number, step in enumerate(steps):
        record = Record(orjson.dumps(step), (step["created_at"], number, step["id"]))
        records[step["id"]] = record
        timeline.add(record.key)
    return page(request, "run step", timeline, records)


def get_step(sandbox: Sandbox, request: Request, thread_id: str, run_id: str, step_id: str) -> Response:
    for step in steps_of(find_run(sandbox, thread_id, run_id).load()):
        if step["id"] == step_id:
            return Response.json(step)
    raise refusals.not_found("run step", step_id)


# --- shared by the calls -----------------------------------------------------------------------------------------


def find_thread(sandbox: Sandbox, thread_id: str) -> Thread:
    thread = sandbox.store.threads.get(thread_id)
    if thread is None:
        raise refusals.not_found("thread", thread_id)
    return thread


def find_run(sandbox: Sandbox, thread_id: str, run_id: str) -> Run:
    find_thread(sandbox, thread_id)
    run = sandbox.store.runs.get(run_id)
    if run is None or run.thread_id != thread_id:
        raise refusals.not_found("run", run_id)
    return run


def read(request: Request, properties: frozenset[str]) -> Json:
    """The body: a JSON object with only these properties. A missing body counts as an empty object."""
    try:
        body = orjson.loads(request.body) if request.body else {}
    except orjson.JSONDecodeError:
        raise refusals.not_json() from None
    if not isinstance(body, dict):
        raise refusals.wrong_type("body", "an object", body)
    refusals.check_properties(body, properties)
    return body


def read_metadata(sandbox: Sandbox, body: Json) -> Json | None:
    """The metadata in the body. None if it is absent or null: both leave the existing map unchanged."""
    metadata = body.get("metadata")
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        raise refusals.wrong_type("metadata", "an object", metadata)
    if sandbox.settings.check_limits:
        refusals.check_metadata(metadata)
    return metadata


def modified_metadata(sandbox: Sandbox, stored: Json, given: Json) -> Json:
    """The metadata to store after a modification, as the `modify` setting says."""
    match sandbox.settings.modify:
        case "replace":
            return given
        case "merge":
            merged = stored | given
            if sandbox.settings.check_limits:
                refusals.check_metadata(merged)
            return merged
        case "scramble":
            return {key: str(value)[::-1] for key, value in given.items()} | {"scrambled": "yes"}


def page(request: Request, kind: str, timeline: Timeline, records: Mapping[str, Record]) -> Response:
    """A page of a list: the part of the timeline that the query requests."""
    query = request.query

    def cursor(param: str) -> Key | None:
        if param not in query:
            return None
        record = records.get(query[param])
        if record is None or record.key not in timeline:  # A run of another thread is not in this list.
            raise refusals.unknown_cursor(kind, query[param], param=param)
        return record.key

    ids, has_more = timeline.page(
        limit=read_limit(query.get("limit", "20")),
        descending=read_order(query.get("order", "desc")) == "desc",
        after=cursor("after"),
        before=cursor("before"),
    )
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    envelope = orjson.dumps({"object": "list", "first_id": first, "last_id": last, "has_more": has_more})
    data = b",".join([records[id].body for id in ids])
    return Response(200, envelope[:-1] + b',"data":[' + data + b"]}")


def read_limit(value: str) -> int:
    try:
        limit = int(value)
    except ValueError:
        raise refusals.wrong_type("limit", "an integer", value) from None
    refusals.check_integer("limit", limit, minimum=1, maximum=100)
    return limit


def read_order(value: str) -> str:
    if value not in ("asc", "desc"):
        message = f"Invalid value: '{value}'. Supported values are: 'asc' and 'desc'."
        raise ApiError(message, code="invalid_value", param="order")
    return value
