"""Lists of ids in all formats of files, spreadsheets and pasted text, at every entry point."""

import codecs
import io
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from runsadmin import id_lists
from runsadmin.errors import InvalidList
from runsadmin.models import BulkEdit, Run, Thread
from tests.api.conftest import Api, ApiOf
from tests.fake_upstream import FakeUpstream
from tests.management.conftest import Manage, Output
from tests.sandbox_client import make_run

pytestmark = pytest.mark.django_db

TRACK = "/admin/runsadmin/thread/add/"

# Each contains exactly the ids run_a and run_b. `as_threads` turns them into thread_a and thread_b.
LISTS = {
    "plain": b"run_a\nrun_b\n",
    "no final line break": b"run_a\nrun_b",
    "blank lines": b"\n\nrun_a\n   \n\t\nrun_b\n\n",
    "UTF-8 byte order mark": codecs.BOM_UTF8 + b"run_a\nrun_b\n",
    "byte order marks in the middle": codecs.BOM_UTF8 + b"run_a\n" + codecs.BOM_UTF8 + b"run_b\n",
    "UTF-16": "run_a\r\nrun_b\r\n".encode("utf-16"),
    "UTF-16 big-endian": codecs.BOM_UTF16_BE + "run_a\r\nrun_b\r\n".encode("utf-16-be"),
    "UTF-16 without byte order mark": "run_a\r\nrun_b\r\n".encode("utf-16-le"),
    "UTF-32": "run_a\nrun_b\n".encode("utf-32"),
    "CRLF": b"run_a\r\nrun_b\r\n",
    "CR": b"run_a\rrun_b\r",
    "mixed line breaks": b"run_a\r\n\rrun_b\n\r",
    "DOS end of file": b"run_a\r\nrun_b\r\n\x1a",
    "header id": b"id\nrun_a\nrun_b\n",
    "header run_id": b"run_id\nrun_a\nrun_b\n",
    "header Run ID": b'"Run ID"\nrun_a\nrun_b\n',
    "header after byte order mark": codecs.BOM_UTF8 + b"run_id\r\nrun_a\r\nrun_b\r\n",
    "header twice": b"run_id\nrun_a\nrun_id\nrun_b\n",
    "one column of a table": b"status,run_id,model\ncompleted,run_a,m\nfailed,run_b,m\n",
    "run_id beside id": b"id,run_id\n1,run_a\n2,run_b\n",
    "semicolons": b"status;run_id\ncompleted;run_a\nfailed;run_b\n",
    "tabs": b"run_id\tnote\nrun_a\tx, y\nrun_b\tz; w\n",
    "tabs in UTF-16": "run_id\tnote\r\nrun_a\tx\r\nrun_b\ty\r\n".encode("utf-16"),
    "Excel's sep line": b"sep=;\r\nid;status\r\nrun_a;completed\r\nrun_b;failed\r\n",
    "sep line without header": b"sep=;\r\nrun_a;run_b\r\n",
    "quoted cells": b'"run_a"\n"run_b"\n',
    "quoted table": b'"run_id","note"\n"run_a","x, ""y"""\n"run_b","z"\n',
    "quoted line breaks": b'run_id,note\r\nrun_a,"two\r\nlines"\r\nrun_b,"\r\n"\r\n',
    "blank rows of a sheet": b"run_id;note\nrun_a;x\n;\nrun_b;y\n;;;\n",
    "commas": b"run_a,run_b",
    "commas and spaces": b"run_a, run_b,",
    "semicolons on a line": b"run_a;run_b;",
    "spaces": b"run_a run_b",
    "quotes as in a query": b"'run_a',\n'run_b'\n",
    "typographic quotes": "“run_a”, “run_b”".encode(),
    "no-break and zero-width": "\u00a0run_a\u200b\n\u2060run_b\u00a0".encode(),
    "comments": b"# failed yesterday\nrun_a\n  # and\nrun_b\n",
    "line separators": "run_a\u2028run_b\u0085".encode(),
}  # fmt: skip

# A list, and how many of its ids are duplicates.
DUPLICATES = {
    "each twice": (b"run_a\nrun_b\nrun_a\nrun_b\n", 2),
    "with and without quotes": (b'run_a\n"run_a"\n run_a \nrun_b\n', 2),
    "rows of a table": (b"run,key\nrun_a,team\nrun_a,note\nrun_b,team\n", 1),
}

EMPTY = {"empty": b"", "blank": b"\n \r\n\t", "header only": b"run_id\n", "only a byte order mark": codecs.BOM_UTF8}

# A list that cannot be read, and the message.
UNREADABLE = {
    "Latin-1": ("run_a\r\nrun_ü\r\nrun_b".encode("latin-1"), "Line 2 is not UTF-8 text (byte 0xFC). Save the file as"),
    "Latin-1 after CR": (b"run_a\rrun_b\rcaf\xe9", "Line 3 is not UTF-8 text (byte 0xE9)"),
    "truncated UTF-16": (codecs.BOM_UTF16_LE + b"r\0u\0n", "Line 1 is not UTF-16 text"),
    "an image": (b"\x89PNG\r\n\x1a\n\0\0\0", "Line 1 is not UTF-8 text (byte 0x89)"),
    "columns without ids": (b"thread_id,status\nthread_a,failed\n", "has no column of run ids. Name the column run_id"),
    "a row without its id": (b"run_id,note\nrun_a,x\n,run_b\n", "Line 3 has no id in column 1"),
    "a short row": (b"note,run_id\nx,run_a\ny\n", "Line 3 has no id in column 2"),
    "an open quote": (b'run_id,note\nrun_a,x\nrun_b,"y\nrun_c,z\n', "Line 3 is not CSV: unexpected end of data"),
    "a quote in a cell": (b'run_id,note\nrun_a,"x"y\n', "Line 2 is not CSV"),
    "a long cell": (b'run_id,note\nrun_a,"' + b"x" * 200_000 + b'"\n', "Line 2 is not CSV: field larger than"),
    "a long quoted line": (b'run_a\n"' + b"x" * 200_000 + b'"\n', "Line 2 is not CSV: field larger than"),
    "JSON": (b'["run_a", "run_b"]', "This is JSON. Put one id on each line"),
    "lines of JSON": (b'{"run": "run_a"}\n{"run": "run_b"}\n', "This is JSON"),
}  # fmt: skip


@pytest.fixture
def runs(mirror_runs: Callable[..., list[Run]]) -> list[Run]:
    names = ("run_a", "run_b", "run_c")
    return mirror_runs(*(make_run(id=name, created_at=number) for number, name in enumerate(names, 1)))


@pytest.fixture
def edit_from_file(manage: Manage, alice: User, tmp_path: Path) -> Callable[..., Output]:
    """Writes a list to a file, and edits its runs."""

    def edit_from_file(content: bytes, *options: str) -> Output:
        path = tmp_path / "ids.csv"
        path.write_bytes(content)
        common = ("--set", "triage=done", "--reason", "why", "--actor", "alice", *options)
        return manage("edit_metadata", "--ids-from", str(path), *common)

    return edit_from_file


@pytest.fixture
def client(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


def edited_ids(upstream: FakeUpstream) -> set[str]:
    return {request.parts[-1] for request in upstream.writes}


def as_threads(content: bytes) -> bytes:
    """The same list with thread ids, in the same encoding."""
    for name in ("utf-32-le", "utf-16-le", "utf-16-be", "utf-8"):
        for old, new in (("run", "thread"), ("Run", "Thread")):
            content = content.replace(old.encode(name), new.encode(name))
    return content


def tracked_ids() -> set[str]:
    return set(Thread.objects.filter(tracked=True).values_list("upstream_id", flat=True))


@pytest.mark.parametrize("content", LISTS.values(), ids=LISTS.keys())
def test_every_format_is_read(content: bytes) -> None:
    assert set(id_lists.read(content, "run")) == {"run_a", "run_b"}
    assert set(id_lists.read(as_threads(content), "thread")) == {"thread_a", "thread_b"}


# The entry points decode these lists in different ways.
decoded_differently = pytest.mark.parametrize(
    "name",
    [
        "UTF-16 without byte order mark",
        "header after byte order mark",
        "CR",
        "tabs in UTF-16",
        "typographic quotes",
        "line separators",
    ],
)


@decoded_differently
def test_runs_in_a_file_are_edited(
    name: str, upstream: FakeUpstream, runs: list[Run], edit_from_file: Callable[..., Output]
) -> None:
    output = edit_from_file(LISTS[name])
    assert (output.code, output.err) == (0, "")
    assert edited_ids(upstream) == {"run_a", "run_b"}


@decoded_differently
@pytest.mark.parametrize("entry", ["file", "standard input", "upload", "paste"])
def test_each_entry_point_reads_the_list(
    entry: str, name: str, manage: Manage, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = as_threads(LISTS[name])
    if entry == "file":
        (tmp_path / "ids").write_bytes(content)
        manage("track_threads", "--from-file", str(tmp_path / "ids"), "--actor", "alice")
    elif entry == "standard input":
        # The encoding of standard input may differ from that of files.
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="latin-1"))
        manage("track_threads", "--from-file", "-", "--actor", "alice")
    elif entry == "upload":
        client.post(TRACK, {"connection": "default", "file": SimpleUploadedFile("ids.csv", content)})
    else:
        # The browser has already decoded text that is pasted.
        text = content.decode("utf-16" if content.startswith(codecs.BOM_UTF16_LE) else "utf-8", errors="ignore")
        client.post(TRACK, {"connection": "default", "thread_ids": text.replace("\0", "")})
    assert tracked_ids() == {"thread_a", "thread_b"}


@pytest.mark.parametrize(("content", "count"), DUPLICATES.values(), ids=DUPLICATES.keys())
def test_duplicates_are_counted(
    content: bytes,
    count: int,
    upstream: FakeUpstream,
    runs: list[Run],
    edit_from_file: Callable[..., Output],
    client: Client,
) -> None:
    assert edit_from_file(content).err == f"Duplicates ignored: {count}.\n"
    assert len(upstream.writes) == 2
    page = client.post(TRACK, {"connection": "default", "thread_ids": as_threads(content).decode()}).text
    assert f"Duplicates ignored: {count}." in " ".join(page.split())


@pytest.mark.parametrize(("content", "message"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_unreadable_list_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(InvalidList) as caught:
        id_lists.read(content, "run")
    assert message in str(caught.value)


@pytest.mark.parametrize("content", EMPTY.values(), ids=EMPTY.keys())
def test_list_without_ids_is_empty(content: bytes) -> None:
    assert id_lists.read(content, "run") == []


@pytest.mark.parametrize(
    ("content", "message"), [(b"run_id\n", "contains no ids. Put one id on each line."), UNREADABLE["Latin-1"]]
)
def test_unreadable_file_edits_nothing(
    content: bytes, message: str, upstream: FakeUpstream, runs: list[Run], edit_from_file: Callable[..., Output]
) -> None:
    output = edit_from_file(content)
    assert output.code == 1
    assert message in output.err
    assert not BulkEdit.objects.exists()
    assert upstream.writes == []


def test_unreadable_upload_is_refused(client: Client) -> None:
    file = SimpleUploadedFile("ids.csv", "thread_a\nthread_ü".encode("latin-1"))
    page = client.post(TRACK, {"connection": "default", "thread_ids": "thread_b", "file": file}).text
    assert "Line 2 is not UTF-8 text" in page
    assert "thread_b" in page
    assert tracked_ids() == set()


def test_unreadable_path_is_reported(manage: Manage, alice: User, tmp_path: Path) -> None:
    for name in (str(tmp_path), str(tmp_path / "none"), "nul\0"):
        for command, option in (("track_threads", "--from-file"), ("edit_metadata", "--ids-from")):
            output = manage(command, option, name, *(["--set", "a=1"] if "edit" in command else []), "--actor", "alice")
            assert output.code == 1
            assert f"{name} cannot be read: " in output.err


def test_closed_standard_input_is_reported(manage: Manage, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    output = manage("track_threads", "--from-file", "-", "--actor", "alice")
    assert "Standard input cannot be read: it is closed." in output.err


def test_line_breaks_in_arguments_are_removed(manage: Manage, alice: User) -> None:
    output = manage("track_threads", "thread_a\r", "\ufeffthread_b", "'x'", "thread_a", "--actor", "alice")
    assert output.err == "Duplicates ignored: 1.\n"
    assert tracked_ids() == {"thread_a", "thread_b", "'x'"}


def test_invalid_id_does_not_stop_the_others(
    upstream: FakeUpstream, runs: list[Run], edit_from_file: Callable[..., Output]
) -> None:
    content = b"run_a\nrun\0x\nrun_\xf0\x9f\x98\x80\n" + b"x" * 300_000 + b"\nrun_b\n"
    output = edit_from_file(content)
    assert output.code == 1
    assert edited_ids(upstream) == {"run_a", "run_b"}
    assert len(output.err) < 2_000
    assert len(BulkEdit.objects.get().not_selected) == 3


def test_id_can_contain_separators() -> None:
    assert id_lists.read(b"run 1\nabc+def==\nx@y\n", "run") == ["run 1", "abc+def==", "x@y"]
    assert id_lists.read(b'"a,b"\n"#c"\n', "run") == ["a,b", "#c"]


def test_exported_csv_can_be_used_as_a_list(
    upstream: FakeUpstream, runs: list[Run], edit_from_file: Callable[..., Output], client: Client
) -> None:
    edit_from_file(b"run_a\nrun_b\n", "--dry-run", "--set", "note=x")
    plan = client.get(f"/admin/runsadmin/bulkedit/{BulkEdit.objects.get().pk}/csv/").getvalue()
    output = edit_from_file(plan)
    assert (output.code, output.err) == (0, "Duplicates ignored: 2.\n")
    assert edited_ids(upstream) == {"run_a", "run_b"}


def test_too_many_ids_are_refused(
    edit_from_file: Callable[..., Output], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(id_lists, "MAX_IDS", 2)
    message = "The list has more than 2 ids. Split it into smaller lists."
    assert message in edit_from_file(b"run_a\nrun_b\nrun_a\nrun_c\n").err
    assert message in client.post(TRACK, {"connection": "default", "thread_ids": "t1,t2,t3"}).text
    monkeypatch.setattr(id_lists, "MAX_BYTES", 1_000_000)
    assert "The list is larger than 1 MB. Split it" in edit_from_file(b"run_a\n" * 200_000).err


def test_60_000_ids_take_seconds(
    manage: Manage,
    alice: User,
    tmp_path: Path,
    runs: list[Run],
    edit_from_file: Callable[..., Output],
    client: Client,
    api: ApiOf,
) -> None:
    ids = [f"thread_{number}" if number % 2 else f"../{number}" for number in range(60_000)]
    content = "\n".join(ids).encode()
    (tmp_path / "ids").write_bytes(content)
    start = time.process_time()
    output = manage("track_threads", "--from-file", str(tmp_path / "ids"), "--actor", "alice")
    page = client.post(TRACK, {"connection": "default", "thread_ids": content.decode()}).text
    edited = edit_from_file(content + b"\nrun_a\n")
    response = api(alice).post("bulk-edits/", {"run_ids": [*ids, "run_a"], "set": {"a": "1"}, "reason": "why"})
    assert time.process_time() - start < 30

    assert output.err.splitlines()[20] == "… and 29,980 more invalid ids."
    assert output.out == "30,000 now tracked, 0 already tracked.\n"
    assert "These are the first 200 of 30,000." in page
    assert len(page) < 200_000
    assert edited.err.splitlines()[20] == "… and 59,980 more that cannot be edited; --json lists all of them."
    assert response.status_code == 202


@pytest.mark.parametrize("separator", [",", ";", "\t", " ", '","', "'", "\ufeff ", "|"])
def test_lists_are_read_in_linear_time(separator: str) -> None:
    for content in (separator * 1_000_000, separator.join(["thread_a"] * 60_000), '"' + separator * 100_000):
        start = time.process_time()
        with suppress(InvalidList):
            id_lists.read(content, "thread")
        assert time.process_time() - start < 5


def test_rest_limits_the_size_of_lists(runs: list[Run], api: ApiOf, alice: User) -> None:
    client: Api = api(alice)
    response = client.post("threads/", {"thread_ids": ["t1", "t2", "t1", "t1"]}).json()
    assert response["duplicates"] == 2
    body = {"run_ids": ["run_a", "run_b", "run_a"], "set": {"a": "1"}, "reason": "why"}
    for _ in range(2):
        planned = client.post("bulk-edits/", body, Idempotency_Key="k").json()
        assert (planned["duplicates"], planned["selected"]) == (1, 2)
    refused = client.post("threads/", {"thread_ids": ["t"] * 10_001}).json()
    assert "Must contain 1 to 10,000 ids, not 10,001." in refused["detail"]
    refused = client.post("bulk-edits/", body | {"run_ids": [1] * 50_000}).json()
    assert len(refused["errors"]) == 100
