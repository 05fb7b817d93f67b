"""The form of a bulk edit: what a patch can do, and where errors are shown."""

import html
import re

import pytest
from django.test import Client

from runsadmin.models import BulkEdit, Run
from tests.admin.bulk_edit_pages import RED_FORM, make_plan, page_text, patch_form, select_all
from tests.conftest import MakeRun

pytestmark = pytest.mark.django_db(transaction=True)


def test_patch_sets_empties_removes_and_renames(six_runs: list[Run], as_alice: Client) -> None:
    form = patch_form(
        ("team", "set", "{model}, {created:%Y}"), ("note", "empty", ""), ("n", "rename", "number"),
        ("gone", "remove", ""), ("", "set", ""),
    )  # fmt: skip
    bulk_edit = make_plan(as_alice, form, query="q=run_1")

    assert bulk_edit.set == {"team": "{model}, {created:%Y}", "note": ""}
    assert (bulk_edit.remove, bulk_edit.rename) == (["gone"], {"n": "number"})
    assert bulk_edit.edits.get().patch.as_merge_patch() == {
        "team": "gpt-4o, 2023", "note": "", "n": None, "number": "1",
    }  # fmt: skip
    shown = page_text(as_alice, bulk_edit)
    assert "team blue → gpt-4o, 2023" in shown
    assert "note absent → empty text" in shown
    assert "n 1 → removed" in shown


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("team", "set", ""), "choose “set to empty text” or “remove the pair”"),
        (("team", "remove", "red"), "does not use a value"),
        (("team", "empty", "red"), "does not use a value"),
        (("", "remove", ""), "Enter the key"),
        (("", "set", "red"), "Enter the key"),
        (("team", "rename", ""), "Enter the new name"),
        (("team", "nonsense", "red"), "Choose what to do with the key"),
        (("team", "set", "{nosuch}"), "is not a field"),
        (("team", "set", "{"), "Single '{'"),
        (("k" * 65, "set", "red"), "at most 64"),
        (("team", "set", "x" * 513), "at most 512"),
        (("n", "rename", "x" * 65), "at most 64"),
    ],
)
def test_error_is_shown_next_to_its_row(
    six_runs: list[Run], as_alice: Client, row: tuple[str, str, str], message: str
) -> None:
    other = ("other", "set", "<kept> & safe")
    response = as_alice.post(
        select_all(as_alice, "q=status:completed"), {**patch_form(other, row, canary="3", wait="1.5")}
    )

    assert response.status_code == 422
    rows = html.unescape(response.text).split("data-row>")[1:3]
    assert message in rows[1]
    assert 'role="alert"' not in rows[0]
    assert not row[0] or f'value="{row[0]}"' in rows[1]
    assert f">\n{row[2]}<" in rows[1]
    assert ">\n<kept> & safe<" in rows[0]
    for kept in ('value="moved"', 'value="3"', 'value="1.5"'):
        assert kept in response.text
    assert not BulkEdit.objects.exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"reason": " "}, "needs a reason"),
        ({"reason": "x" * 501}, "at most 500"),
        ({"canary": "0"}, "Enter a number of runs"),
        ({"canary": "many"}, "Enter a number of runs"),
        ({"canary": "9" * 20}, "Enter a number of runs"),
        ({"wait": "-1"}, "Enter a number of hours"),
        ({"wait": "nan"}, "Enter a number of hours"),
        ({"wait": "721"}, "Enter a number of hours"),
    ],
)
def test_error_is_shown_next_to_its_field(
    six_runs: list[Run], as_alice: Client, more: dict[str, str], message: str
) -> None:
    response = as_alice.post(select_all(as_alice, ""), {**RED_FORM, **more})

    assert response.status_code == 422
    assert message in response.text
    assert ">\nred<" in response.text
    assert not BulkEdit.objects.exists()


def test_repeated_key_and_empty_patch_are_errors(six_runs: list[Run], as_alice: Client) -> None:
    twice = patch_form(("team", "set", "red"), ("team", "set", "green"))
    assert "used more than once" in as_alice.post(select_all(as_alice, ""), twice).text
    both = patch_form(("team", "set", "red"), ("team", "remove", ""))
    assert "used more than once" in as_alice.post(select_all(as_alice, ""), both).text
    assert "This changes nothing" in as_alice.post(select_all(as_alice, ""), patch_form()).text
    assert not BulkEdit.objects.exists()


def test_existing_keys_are_suggested(six_runs: list[Run], mirror_run: MakeRun, as_alice: Client) -> None:
    mirror_run(id="run_x", metadata={"<b>": "1", "zone": "2"})

    offered = re.findall(r'<option value="([^"]*)"></option>', as_alice.get(select_all(as_alice)).text)

    assert offered == ["&lt;b&gt;", "n", "team", "zone"]
