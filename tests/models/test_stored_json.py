"""The JSON of runs: it is read exactly as it was received, and shares text with other runs."""

import json
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from runsadmin.models import Run, SharedText, Thread, stored_json
from runsadmin.models.shared_text import key_of
from runsadmin.models.stored_json import SKELETON, Unpacked, pack, unpack, unpack_each
from tests.conftest import MakeRun
from tests.sandbox_client import make_run

pytestmark = pytest.mark.django_db

SHARED = '"instructions":"' + "Answer in one short paragraph. " * 20 + '"'
TOOLS = '"tools":[' + ",".join(f'{{"type":"function","function":{{"name":"f{n}"}}}}' for n in range(20)) + "]"


@pytest.fixture(autouse=True)
def forget_seen_texts() -> None:
    """Makes this process forget the texts that it has seen."""
    stored_json._seen.clear()


def stored(columns: dict[str, Any]) -> bytes:
    return bytes(Run._meta.get_field("raw").get_prep_value(columns["raw"]))


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.text(max_size=300), st.sampled_from([(), (SHARED,), (SHARED, TOOLS), (TOOLS,)]))))
def test_any_text_is_read_as_it_was_stored(items: list[tuple[str, tuple[str, ...]]]) -> None:
    unpacked = [Unpacked("{" + "".join(shareable) + text, shareable) for text, shareable in items]
    for item, columns in zip(unpacked, pack(unpacked), strict=True):
        assert columns["raw"] == item.text
        assert unpack(stored(columns)) == item.text.encode()


@pytest.mark.parametrize("limit", [1, 700, 1024 * 1024])
def test_many_values_are_read_in_order(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(stored_json, "_MAX_TOGETHER", limit)
    shareable: list[tuple[str, ...]] = [(), (SHARED,), (TOOLS,), (), (SHARED,), (TOOLS,), (SHARED,), ()]
    texts = [f'{{"id":{number}{"".join(some)}}}' for number, some in enumerate(shareable)]
    columns = pack([Unpacked(text, some) for text, some in zip(texts, shareable, strict=True)])
    values: list[stored_json.Stored] = [*map(stored, columns), '{"version":"0.1.0"}', memoryview(stored(columns[1]))]
    assert list(unpack_each(values)) == [text.encode() for text in (*texts, '{"version":"0.1.0"}', texts[1])]


def test_few_long_values_are_decompressed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_json, "_MAX_TOGETHER", 2500)
    sizes: list[int] = []
    decompress = stored_json.Codec.decompress_all

    def decompress_all(codec: stored_json.Codec, compressed: Any) -> list[bytes]:
        contents = decompress(codec, compressed)
        sizes.append(sum(map(len, contents)))
        return contents

    monkeypatch.setattr(stored_json.Codec, "decompress_all", decompress_all)
    values = [stored(columns) for columns in pack([Unpacked("{" + "x" * 998 + "}")] * 4 + [Unpacked("x" * 9000)] * 2)]
    assert len(list(unpack_each(values))) == 6
    assert sizes == [2000, 2000, 9000, 9000]


def test_text_of_one_run_is_not_shared() -> None:
    assert pack([Unpacked("{" + SHARED + "}", (SHARED,))])[0]["shared_text_id"] is None
    assert not SharedText.objects.exists()


def test_text_is_shared_from_its_second_run_on() -> None:
    pack([Unpacked("{" + SHARED + "}", (SHARED,))])
    second, third = (pack([Unpacked("{" + SHARED + "}", (SHARED,))])[0] for _ in range(2))
    assert second["shared_text_id"] == third["shared_text_id"] == SharedText.objects.get().pk
    assert len(stored(second)) < 50


def test_text_of_two_runs_on_a_page_is_shared() -> None:
    for columns in pack([Unpacked("{" + SHARED + "}", (SHARED,))] * 2):
        assert columns["shared_text_id"] is not None


def test_tools_are_shared_if_instructions_differ() -> None:
    own = [f'"instructions":"{"For customer " * 20}{number}"' for number in range(3)]
    rows = pack([Unpacked(f"{{{text},{TOOLS}}}", (f"{text},{TOOLS}", TOOLS, text)) for text in own])
    assert {row["shared_text_id"] for row in rows} == {SharedText.objects.get().pk}
    assert SharedText.objects.get().text == TOOLS


def test_short_text_is_not_shared() -> None:
    assert {row["shared_text_id"] for row in pack([Unpacked("{}", ('"instructions":"Hi"',))] * 3)} == {None}


def test_synced_runs_share_their_instructions(mirror_run: MakeRun) -> None:
    fields = {"instructions": "Never invent an order number. " * 20, "tools": [{"type": "file_search"}]}
    runs = [mirror_run(**fields, metadata={"n": str(number)}) for number in range(3)]
    assert [run.metadata for run in runs] == [{"n": "0"}, {"n": "1"}, {"n": "2"}]
    assert all(run.data["instructions"] == fields["instructions"] for run in runs)
    assert [run.shared_text_id is None for run in runs] == [True, False, False]


def test_metadata_is_never_shared(mirror_run: MakeRun) -> None:
    for number in range(3):
        mirror_run(instructions="Never invent. " * 20, metadata={"secret": f"value-{number}" * 30})
    assert not any("value" in text or "secret" in text for text in SharedText.objects.values_list("text", flat=True))


def test_text_of_version_0_1_0_is_read() -> None:
    text = json.dumps(make_run(), ensure_ascii=False)
    assert unpack(text) == unpack(text.encode()) == unpack(memoryview(text.encode())) == text.encode()


def test_skeleton_never_changes() -> None:
    """Stored values can only be read with the skeleton that they were written with."""
    assert key_of(SKELETON) == 3320626595276626138


def test_values_and_deferred_fields_are_text(mirror_run: MakeRun) -> None:
    run = mirror_run(metadata={"team": "red"})
    assert Run.objects.values_list("raw", flat=True).get() == run.raw
    assert Run.objects.defer("raw").get().raw == run.raw
    copy = Run.objects.get()
    copy.raw = "{}"
    copy.save()
    assert Run.objects.get().raw == "{}"
    assert Thread.objects.get().runs.get().data == {}
    with connection.cursor() as cursor:
        cursor.execute("SELECT raw FROM runsadmin_run")
        assert bytes(cursor.fetchone()[0])[:1] == b"\x01"
