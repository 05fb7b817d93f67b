"""The pair editor: the input becomes an edit, which is pushed, and a page shows its outcome."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from runsadmin.models import Edit, EditStatus
from tests.admin.conftest import base_fields, page, typed
from tests.conftest import MakeRun
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)


def test_saved_pairs_reach_upstream_and_mirror(sandbox: Sandbox, mirrored: MakeRun, as_alice: Client) -> None:
    run = mirrored(metadata={"team": "blue", "env": "prod"})
    form = typed(("team", "red"), ("ticket", "OPS-1"), base=base_fields(as_alice, run), reason="moved")

    response = as_alice.post(page(run, "metadata"), form)

    edit = Edit.objects.get()
    assert response.headers["Location"] == f"/admin/runsadmin/edit/{edit.pk}/change/"
    shown = as_alice.get(response.headers["Location"]).text
    assert "Applied" in shown
    assert edit.upstream_request_id in shown
    assert sandbox.metadata(run.upstream_id) == {"team": "red", "ticket": "OPS-1"}
    run = type(run).objects.get()
    assert run.metadata == {"team": "red", "ticket": "OPS-1"}
    assert (edit.status, edit.actor.username, edit.source, edit.reason) == ("applied", "alice", "admin", "moved")


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("team", "red"), ("team", "green")], "is used more than once"),
        ([("", "red")], "The key is empty"),
        ([("k" * 65, "red")], "at most 64"),
        ([("team", "v" * 513)], "at most 512"),
        ([("team", "a\0b")], "U+0000"),
        ([("a\0b", "red")], "U+0000"),
        ([(f"key{n}", "v") for n in range(17)], "at most 16"),
        ([("team", "blue")], "This changes nothing"),
    ],
)
def test_invalid_pairs_send_nothing(
    sandbox: Sandbox, mirrored: MakeRun, as_alice: Client, pairs: list[tuple[str, str]], message: str
) -> None:
    run = mirrored(metadata={"team": "blue"})
    base = base_fields(as_alice, run)
    sandbox.clear_log()

    response = as_alice.post(page(run, "metadata"), typed(*pairs, base=base, reason="because"))

    assert response.status_code == 422
    assert message in response.text
    assert 'value="because"' in response.text
    assert not Edit.objects.exists()
    assert sandbox.log() == []


def test_invalid_input_is_kept(mirrored: MakeRun, as_alice: Client) -> None:
    run = mirrored(metadata={"team": "blue"})
    form = typed(("team", "half <done>"), ("k" * 65, "kept"), base=base_fields(as_alice, run))

    response = as_alice.post(page(run, "metadata"), form)

    assert "half &lt;done&gt;" in response.text
    assert "k" * 65 in response.text
    assert ">\nkept</textarea>" in response.text


def test_limits_count_characters(sandbox: Sandbox, mirrored: MakeRun, as_alice: Client) -> None:
    run = mirrored()
    as_alice.post(page(run, "metadata"), typed(("😀" * 64, "é" * 512), base=base_fields(as_alice, run)))

    assert sandbox.metadata(run.upstream_id) == {"😀" * 64: "é" * 512}


def test_edits_of_different_keys_both_apply(
    sandbox: Sandbox, mirrored: MakeRun, as_alice: Client, as_bob: Client
) -> None:
    run = mirrored(metadata={"team": "blue", "env": "dev"})
    seen_by_alice, seen_by_bob = base_fields(as_alice, run), base_fields(as_bob, run)

    as_alice.post(page(run, "metadata"), typed(("team", "red"), ("env", "dev"), base=seen_by_alice))
    as_bob.post(page(run, "metadata"), typed(("team", "blue"), ("env", "prod"), base=seen_by_bob))

    assert sandbox.metadata(run.upstream_id) == {"team": "red", "env": "prod"}
    assert {edit.status for edit in Edit.objects.all()} == {EditStatus.APPLIED}


@pytest.mark.parametrize("base", ["", "forged", "eyJydW4iOjF9:aaaa:bbbb"])
def test_missing_base_is_refused(mirrored: MakeRun, as_alice: Client, base: str) -> None:
    run = mirrored(metadata={"team": "blue"})

    response = as_alice.post(page(run, "metadata"), typed(("team", "red"), base=base))

    assert response.status_code == 422
    assert "edit it again" in response.text
    assert not Edit.objects.exists()


def test_base_of_another_run_is_refused(mirrored: MakeRun, as_alice: Client) -> None:
    run, other = mirrored(metadata={"team": "blue"}), mirrored(metadata={"team": "green"})

    response = as_alice.post(page(run, "metadata"), typed(("team", "red"), base=base_fields(as_alice, other)))

    assert response.status_code == 422
    assert not Edit.objects.exists()


def test_untypable_values_stay_until_unmarked(sandbox: Sandbox, mirrored: MakeRun, as_alice: Client) -> None:
    sandbox.settings(check_limits=False)
    odd = {"count": 5, "crlf": "a\r\nb", "flag": None}
    run = mirrored(metadata={"team": "blue", **odd})
    base = base_fields(as_alice, run)

    as_alice.post(page(run, "metadata"), typed(("team", "red"), base=base, keep=["1", "2", "3"]))  # type: ignore[arg-type]
    assert sandbox.metadata(run.upstream_id) == {"team": "red", **odd}

    base = base_fields(as_alice, run)
    as_alice.post(page(run, "metadata"), typed(("team", "red"), base=base, keep=["2", "3"]))  # type: ignore[arg-type]
    assert sandbox.metadata(run.upstream_id) == {"team": "red", "crlf": "a\r\nb", "flag": None}


def test_line_breaks_survive_the_form(sandbox: Sandbox, mirrored: MakeRun, as_alice: Client) -> None:
    run = mirrored(metadata={"note": "\nfirst\nsecond", "team": "blue"})
    form = typed(("note", "\r\nfirst\r\nsecond"), ("team", "red"), base=base_fields(as_alice, run))

    as_alice.post(page(run, "metadata"), form)

    assert Edit.objects.get().patch.as_merge_patch() == {"team": "red"}
    assert sandbox.metadata(run.upstream_id)["note"] == "\nfirst\nsecond"


def test_viewer_gets_no_form_and_no_edit(
    sandbox: Sandbox, mirrored: MakeRun, as_alice: Client, as_carol: Client
) -> None:
    run = mirrored(metadata={"team": "blue"})
    form = typed(("team", "red"), base=base_fields(as_alice, run))
    sandbox.clear_log()

    assert as_carol.get(page(run, "metadata")).status_code == 403
    assert as_carol.post(page(run, "metadata"), form).status_code == 403
    assert "Edit metadata" not in as_carol.get(page(run)).text
    assert not Edit.objects.exists()
    assert sandbox.log() == []


def test_forged_request_is_refused(mirrored: MakeRun, alice: User) -> None:
    run = mirrored(metadata={"team": "blue"})
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    base = base_fields(client, run)

    for url in (page(run, "metadata"), page(run, "refresh")):
        assert client.post(url, typed(("team", "red"), base=base)).status_code == 403
    assert not Edit.objects.exists()
