"""If-Match with ETags that proxies or clients have changed."""

from typing import Any

import pytest
from django.contrib.auth.models import User

from runsadmin.models import Edit, Run
from tests.api.conftest import ApiOf, problem
from tests.fake_upstream import FakeUpstream

pytestmark = pytest.mark.django_db(transaction=True)

# `{}` is the current ETag, without its quotes.
CHANGED = {
    "weak": ('W/"{}"', "Nothing was changed: a proxy weakened the ETag"),
    "weak in lower case": ('w/"{}"', "Nothing was changed: a proxy weakened the ETag"),
    "weak in a list": ('"other", W/"{}"', "Nothing was changed: a proxy weakened the ETag"),
    "weak and gzip": ('W/"{}-gzip"', "Nothing was changed: a proxy weakened the ETag"),
    "gzip of Apache": ('"{}-gzip"', "Nothing was changed: a proxy changed the ETag"),
    "gzip of Jetty": ('"{}--gzip"', "Nothing was changed: a proxy changed the ETag"),
    "brotli": ('"{};br"', "Nothing was changed: a proxy changed the ETag"),
}
MALFORMED = {
    "unquoted": "{}",
    "single quotes": "'{}'",
    "escaped quotes": '\\"{}\\"',
    "quoted twice": '""{}""',
    "percent-encoded": "%22{}%22",
    "typographic quotes": "“{}”".encode().decode("latin-1"),
    "weak unquoted": "W/{}",
    "unclosed quote": '"{}',
    "space after W/": 'W/ "{}"',
    "star and a tag": '*, "{}x"',
    "only commas": ",,",
    "empty": "",
    "null": "null",
}


def patch(api: ApiOf, alice: User, run: Run, tag: str) -> Any:
    header = tag.replace("{}", run.etag.strip('"'))
    return api(alice).patch(f"runs/{run.upstream_id}/", {"metadata": {"triage": "done"}}, If_Match=header)


@pytest.mark.parametrize(("tag", "cause"), CHANGED.values(), ids=CHANGED.keys())
def test_changed_tag_is_explained(
    tag: str, cause: str, upstream: FakeUpstream, run: Run, api: ApiOf, alice: User
) -> None:
    detail = problem(patch(api, alice, run, tag), 412, "changed-tag")["detail"]
    assert detail.startswith(cause)
    assert f"Send {run.etag} instead" in detail
    assert not Edit.objects.exists()
    assert upstream.writes == []


def test_changed_tag_can_also_be_stale(upstream: FakeUpstream, run: Run, api: ApiOf, alice: User) -> None:
    detail = problem(patch(api, alice, run, 'W/"{}0"'), 412, "changed-tag")["detail"]
    assert detail.startswith("Nothing was changed: a proxy weakened the ETag")
    assert "The run has changed as well: read it again." in detail


@pytest.mark.parametrize("tag", MALFORMED.values(), ids=MALFORMED.keys())
def test_invalid_tag_is_a_400(tag: str, upstream: FakeUpstream, run: Run, api: ApiOf, alice: User) -> None:
    data = problem(patch(api, alice, run, tag), 400, "invalid-request")
    assert data["errors"][0]["field"] == "If-Match"
    assert "Send the ETag" in data["detail"]
    assert "has changed since" not in data["detail"]
    assert not Edit.objects.exists()


@pytest.mark.parametrize("tag", ['"{}"', '"other","{}"', ' "{}" ', 'W/"{}", "{}"', "*", " * "])
def test_matching_tag_is_accepted(tag: str, upstream: FakeUpstream, run: Run, api: ApiOf, alice: User) -> None:
    assert patch(api, alice, run, tag).status_code == 200


@pytest.mark.parametrize("tag", ['"{}0"', '"other"', '"a", "b"', '""', '"{}-1"'])
def test_different_tag_is_stale(tag: str, upstream: FakeUpstream, run: Run, api: ApiOf, alice: User) -> None:
    assert "has changed since you read it" in problem(patch(api, alice, run, tag), 412, "stale-version")["detail"]
