"""Servers explain refusals in bodies of many formats: the message is found and shown."""

import json
import random
import time
from typing import Any

import pytest
from django.contrib.auth.models import User

from runsadmin import conf
from runsadmin.errors import UpstreamError
from runsadmin.models import Edit, Run
from runsadmin.upstream import error_messages
from runsadmin.upstream.client import Client
from tests.conftest import Connect
from tests.fake_upstream import FakeUpstream, Response
from tests.quirks.conftest import push

JSON: dict[str, tuple[Any, str]] = {
    "OpenAI": ({"error": {"message": "Not so.", "type": "x", "param": None, "code": "y"}}, "Not so."),
    "text": ({"error": "Not so."}, "Not so."),
    "detail": ({"detail": "Not so."}, "Not so."),
    "message": ({"message": "Not so."}, "Not so."),
    "capitals": ({"Message": "Not so."}, "Not so."),
    "msg": ({"code": 7, "msg": "Not so."}, "Not so."),
    "FastAPI": (
        {"detail": [{"loc": ["body", "metadata", 0], "msg": "Too long", "type": "x"}]},
        "body.metadata.0: Too long",
    ),
    "FastAPI, two errors": (
        {"detail": [{"loc": ["a"], "msg": "Bad"}, {"loc": ["b"], "msg": "Worse"}]},
        "a: Bad; b: Worse",
    ),
    "problem details": ({"type": "about:blank", "title": "Forbidden", "status": 403, "detail": "Not so."}, "Not so."),
    "title only": ({"type": "about:blank", "title": "Not so.", "status": 403}, "Not so."),
    "problem with errors": (
        {"title": "Invalid.", "errors": [{"pointer": "#/metadata", "detail": "must be a map"}]},
        "Invalid. #/metadata: must be a map",
    ),
    "ASP.NET": ({"title": "Invalid.", "errors": {"metadata": ["is too long"]}}, "Invalid. metadata: is too long"),
    "JSON:API": ({"errors": [{"source": {"pointer": "/data"}, "title": "No", "detail": "Not so."}]}, "/data: Not so."),
    "list of texts": ({"errors": ["One", "Two"]}, "One; Two"),
    "Jira": ({"errorMessages": ["Not so."], "errors": {}}, "Not so."),
    "OAuth": ({"error": "invalid_token", "error_description": "It has expired."}, "It has expired."),
    "Azure": (
        {
            "error": {
                "code": "BadRequest",
                "message": "Denied.",
                "innererror": {"code": "Policy", "message": "Filtered."},
            }
        },
        "Denied. Filtered.",
    ),
    "innererror with a code": ({"error": {"message": "Denied", "innererror": {"code": "Policy"}}}, "Denied; Policy"),
    "details": ({"error": {"message": "Bad.", "details": [{"message": "Worse."}]}}, "Bad. Worse."),
    "Google": ([{"error": {"code": 403, "message": "Not so.", "status": "PERMISSION_DENIED"}}], "Not so."),
    "Anthropic": ({"type": "error", "error": {"type": "overloaded", "message": "Not so."}}, "Not so."),
    "Apigee": ({"fault": {"faultstring": "Invalid key", "detail": {"errorcode": "e.K"}}}, "Invalid key; e.K"),
    "Spring": ({"status": 404, "error": "Not Found", "message": "Not so.", "path": "/v1"}, "Not so."),
    "AWS": ({"__type": "AccessDeniedException"}, "AccessDeniedException"),
    "GraphQL": ({"data": None, "errors": [{"message": "Not so.", "path": ["threads", 0]}]}, "threads.0: Not so."),
    "Elasticsearch": ({"error": {"root_cause": [{"reason": "Deep"}], "reason": "Not so."}}, "Not so. Deep"),
    "OData": ({"error": {"message": {"lang": "en", "value": "Not so."}}}, "Not so."),
    "Django": ({"metadata": ["Not a map."], "x": ["Too long."]}, "metadata: Not a map. x: Too long."),
    "JSON in a text": ({"detail": '{"error": {"message": "Not so."}}'}, "Not so."),
    "detail with an error": ({"detail": {"error": {"message": "Not so."}}}, "Not so."),
    "wrapped": ({"success": False, "data": {"message": "Not so."}}, "Not so."),
    "code only": ({"error": {"code": "invalid_api_key"}}, "invalid_api_key"),
    "a JSON text": ("Not so.", "Not so."),
    "lone surrogate": ({"error": {"message": "So \ud83d not"}}, "So \ufffd not"),
    "control characters": ({"error": "\x1b[31mSo\0 \u202enot\r\n\tat all"}, "\ufffd[31mSo\ufffd \ufffdnot at all"),
    "too long": ({"error": "x" * 301}, f"{'x' * 299}…"),
    "no message": ({"error": {"message": 5}}, '{"error": {"message": 5}}'),
    "an empty message": ({"error": {"message": ""}}, '{"error": {"message": ""}}'),
    "an empty object": ({}, "{}"),
    "null": (None, "null"),
}

TEXTS: dict[str, tuple[bytes, str, str]] = {
    "plain text": (b"upstream connect error\n", "text/plain", "upstream connect error"),
    "no content type": (b"Not so.", "", "Not so."),
    "lines": (b"Not\r\n\r\n   so.", "text/plain", "Not so."),
    "title": (
        b"<html><head><title>\n 403 &amp; out&#33; </title></head><body>x</body></html>",
        "text/html",
        "403 & out!",
    ),
    "h1": (b"<html><title></title><body><h1>Not <b>so</b></h1>", "text/html", "Not so"),
    "HTML without a title": (b"<style>p { color: red }</style><p>Not <b>so</b>.</p>", "text/html", "Not so ."),
    "HTML labeled as JSON": (b"<!DOCTYPE html><title>Blocked</title>", "application/json", "Blocked"),
    "XML": (b"<?xml version='1.0'?><Error><Code>E</Code><Message>Not so.</Message></Error>", "text/xml", "Not so."),
    "CDATA": (b"<Error><Message><![CDATA[Not so.]]></Message></Error>", "application/xml", "Not so."),
    "SOAP": (b"<s:Envelope><s:Fault><faultstring>Not so.</faultstring></s:Fault></s:Envelope>", "text/xml", "Not so."),
    "event stream": (b'event: error\ndata: {"error": {"message": "Not so."}}\n\n', "text/event-stream", "Not so."),
    "BOM": (b'\xef\xbb\xbf{"error": "Not so."}', "application/json", "Not so."),
    "declared Latin-1": ("für".encode("latin-1"), "text/plain; charset=ISO-8859-1", "für"),
    "undeclared Latin-1": ("für".encode("latin-1"), "text/plain", "f\ufffdr"),
    "declared Shift JIS": ("失敗".encode("shift_jis"), 'text/plain; charset="shift_jis"', "失敗"),
    "JSON in declared UTF-16": ('{"error": "für"}'.encode("utf-16"), "application/json; charset=utf-16", "für"),
    "unknown charset": (b"Not so.", "text/plain; charset=klingon", "Not so."),
    "invalid charset": (b"Not so.", "text/plain; charset=hex", "Not so."),
    "truncated JSON": (b'{"error": {"message": "Not', "application/json", '{"error": {"message": "Not'),
    "NaN": (b'{"error": "Not so.", "n": NaN}', "application/json", "Not so."),
    "binary": (b"\x1f\x8b\x00\xff!", "application/octet-stream", "\ufffd\ufffd\ufffd!"),
    "empty": (b"", "application/json", "The server returned 422 without a message."),
    "white space": (b" \r\n", "text/plain", "The server returned 422 without a message."),
}


def error_of(upstream: FakeUpstream, body: bytes, content_type: str = "application/json") -> UpstreamError:
    upstream.override(lambda request: Response(422, body, {"Content-Type": content_type}))
    with pytest.raises(UpstreamError) as caught:
        Client(conf.connection("default")).retrieve_thread("thread_a")
    return caught.value


@pytest.mark.parametrize(("body", "message"), JSON.values(), ids=JSON)
def test_message_is_found_in_json(upstream: FakeUpstream, body: Any, message: str) -> None:
    assert str(error_of(upstream, json.dumps(body).encode())) == message


@pytest.mark.parametrize(("body", "content_type", "message"), TEXTS.values(), ids=TEXTS)
def test_message_is_found_in_other_text(upstream: FakeUpstream, body: bytes, content_type: str, message: str) -> None:
    assert str(error_of(upstream, body, content_type)) == message


@pytest.mark.parametrize("body", [json.dumps({"error": "Not so."}).encode(), b"<title>Not so.</title>", b"Not so."])
@pytest.mark.django_db(transaction=True)
def test_edit_quotes_the_message(upstream: FakeUpstream, run: Run, alice: User, body: bytes) -> None:
    upstream.override(lambda request: Response(422, body) if request.is_write else None)
    edit = push(run, alice)
    assert (edit.status, edit.detail) == (Edit.Status.REJECTED, "Not so.")


@pytest.mark.parametrize("key", ["sk-abc/def+123", "s3cr"])
@pytest.mark.parametrize(
    "body",
    [
        lambda key: json.dumps({"error": {"message": f"Incorrect key: {key}."}}),
        lambda key: json.dumps({"key": key}).replace("/", "\\/"),
        lambda key: f"<title>Bad {key}</title>",
        lambda key: f"{'x ' * 147}{key}",
    ],
    ids=["JSON", "escaped", "HTML", "where the message is cut"],
)
def test_key_is_masked(upstream: FakeUpstream, connect: Connect, body: Any, key: str) -> None:
    connect(API_KEY=key)
    message = str(error_of(upstream, body(key).encode()))
    assert key[:4] not in message
    assert "[our" in message


def test_short_key_is_masked_only_as_a_word(upstream: FakeUpstream, connect: Connect) -> None:
    connect(API_KEY="teal")
    assert str(error_of(upstream, b"Steal no teal")) == "Steal no [our key]"


def test_status_of_oversized_refusal_is_used(upstream: FakeUpstream) -> None:
    assert error_of(upstream, b"x" * 9_000_000).http_status == 422


HUGE = {
    "titles": b"<title" * 1_000_000,
    "scripts": b"<script>" * 1_000_000,
    "spaces": b" " * 8_000_000 + b"x",
    "nested lists": b"[" * 4_000_000,
    "nested errors": b'{"error":' * 900 + b"1" + b"}" * 900,
    "wide": json.dumps({"errors": {str(n): {"errors": [[]] * 20} for n in range(2000)}}).encode(),
    "digits": b'{"error": ' + b"9" * 200_000 + b"}",
    "XML": b"<message" * 500_000,
}


@pytest.mark.parametrize("body", HUGE.values(), ids=HUGE)
def test_huge_body_is_read_in_linear_time(body: bytes) -> None:
    began = time.process_time()
    assert len(error_messages.of(body, "text/html" if body.startswith(b"<") else "")) <= error_messages.MAX_LENGTH
    assert time.process_time() - began < 0.5


def test_any_body_has_a_valid_message() -> None:
    seeds = [json.dumps(body).encode() for body, _ in JSON.values()] + [body for body, _, _ in TEXTS.values()]
    types = [content_type for _, content_type, _ in TEXTS.values()]
    rng = random.Random(1)
    for _ in range(5000):
        body = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(4)):
            start = rng.randrange(len(body) + 1)
            body[start : start + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        message = error_messages.of(bytes(body), rng.choice(types))
        assert len(message) <= error_messages.MAX_LENGTH
        assert message or not bytes(body).decode("utf-8-sig", "replace").strip()
        message.encode()
