"""Prefixes and words are replaced with the values that begin with them, if there are few."""

import datetime as dt

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from runsadmin import search
from runsadmin.services.run_search import expanding
from runsadmin.services.run_search.expanding import expanded
from tests.search.cases import Row, store

pytestmark = pytest.mark.django_db


@pytest.fixture
def runs() -> None:
    common = {"connection": "default", "thread": "thread_a", "created": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}
    store(
        [
            Row(
                common | {"id": "run_1", "status": "failed", "model": "gpt-4o", "error": "server_error"},
                {"env": "prod"},
            ),
            Row(
                common | {"id": "run_2", "status": "failed", "model": "gpt-4o-mini", "error": "rate_limit"},
                {"x y": "é"},
            ),
            Row(common | {"id": "run_3", "status": "queued"}, {"env": "staging", "n": "1", "o": "12", "p": "123"}),
        ]
    )


@pytest.mark.parametrize(
    ("text", "replaced"),
    [
        ("metadata.env:pro*", "metadata.env:prod"),
        ("metadata.env:x*", "metadata.env:x*"),
        ("-metadata.env:*", "-metadata.env:*"),
        ("model:gpt-4o-m*", "model:gpt-4o-mini"),
        ("model:gpt*", "model:gpt*"),  # The prefix is tested while the newest runs are read.
        ("-model:gpt*", "-(model:gpt-4o OR model:gpt-4o-mini)"),
        ("-(status:failed -model:gpt-4o-m*)", "-(status:failed -model:gpt-4o-mini)"),
        ("gpt-4o-m OR error:rate*", "model:gpt-4o-mini OR error:rate_limit"),
        ("-error:*", "-(error:rate_limit OR error:server_error)"),
        ("pro", "metadata.env:prod"),
        ("run_", "id:run_*"),
        ("1", "metadata.n:1 OR metadata.o:12 OR metadata.p:123"),
        ("-1", "-(metadata.n:1 OR metadata.o:12 OR metadata.p:123)"),
        ("\U0010ffff", '"\U0010ffff"'),
        ("é", 'metadata."x y":é'),
        ("nothing", "nothing"),
        ("id:run_1*", "id:run_1*"),
        ("tokens:>5 created:2026", "tokens:>5 created:2026"),
    ],
)
@pytest.mark.usefixtures("runs")
def test_few_values_replace_a_prefix(text: str, replaced: str) -> None:
    assert text_of_expanded(text) == replaced


@pytest.mark.usefixtures("runs")
def test_words_need_few_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expanding, "_MAX_KEYS", 4)
    assert text_of_expanded("pro") == "pro"


def text_of_expanded(text: str) -> str:
    node = search.parse(text)
    assert node is not None
    return str(expanded(node))


@pytest.mark.usefixtures("runs")
def test_words_share_the_list_of_keys() -> None:
    with CaptureQueriesContext(connection) as captured:
        text_of_expanded("pro OR run_ OR 1")
    assert sum("SELECT key FROM" in entry["sql"] for entry in captured.captured_queries) == 1
