"""The pair editor: its input becomes an edit, which is pushed, and whose page shows the outcome."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from runsadmin.models import Edit, EditStatus, Run
from tests.admin.conftest import base_field, metadata_form, run_action, run_url
from tests.conftest import MakeRun
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)


def test_saved_pairs_reach_upstream_and_mirror(sandbox: Sandbox, mirror_run: MakeRun, as_alice: Client) -> None:
    run = mirror_run(metadata={"team": "blue", "env": "prod"})
    form = metadata_form(("team", "red"), ("ticket", "OPS-1"), base=base_field(as_alice, run), reason="moved")

    response = as_alice.post(run_url(run, "metadata"), form)

    edit = Edit.objects.get()
    assert response.headers["Location"] == f"/admin/runsadmin/edit/{edit.pk}/change/"
    shown = as_alice.get(response.headers["Location"]).text
    assert "Applied" in shown
    assert edit.upstream_request_id in shown
    assert sandbox.metadata(run.upstream_id) == {"team": "red", "ticket": "OPS-1"}
    assert Run.objects.get().metadata == {"team": "red", "ticket": "OPS-1"}
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
    sandbox: Sandbox, mirror_run: MakeRun, as_alice: Client, pairs: list[tuple[str, str]], message: str
) -> None:
    run = mirror_run(metadata={"team": "blue"})
    base = base_field(as_alice, run)
    sandbox.clear_log()

    response = as_alice.post(run_url(run, "metadata"), metadata_form(*pairs, base=base, reason="because"))

    assert response.status_code == 422
    assert message in response.text
    assert 'value="because"' in response.text
    assert not Edit.objects.exists()
    assert sandbox.log() == []


def test_invalid_input_is_kept(mirror_run: MakeRun, as_alice: Client) -> None:
    run = mirror_run(metadata={"team": "blue"})
    form = metadata_form(("team", "half <done>"), ("k" * 65, "kept"), base=base_field(as_alice, run))

    response = as_alice.post(run_url(run, "metadata"), form)

    assert "half &lt;done&gt;" in response.text
    assert "k" * 65 in response.text
    assert ">\nkept</textarea>" in response.text


def test_limits_count_characters(sandbox: Sandbox, mirror_run: MakeRun, as_alice: Client) -> None:
    run = mirror_run()
    as_alice.post(run_url(run, "metadata"), metadata_form(("😀" * 64, "é" * 512), base=base_field(as_alice, run)))

    assert sandbox.metadata(run.upstream_id) == {"😀" * 64: "é" * 512}


def test_edits_of_different_keys_both_apply(
    sandbox: Sandbox, mirror_run: MakeRun, as_alice: Client, as_bob: Client
) -> None:
    run = mirror_run(metadata={"team": "blue", "env": "dev"})
    seen_by_alice, seen_by_bob = base_field(as_alice, run), base_field(as_bob, run)

    as_alice.post(run_url(run, "metadata"), metadata_form(("team", "red"), ("env", "dev"), base=seen_by_alice))
    as_bob.post(run_url(run, "metadata"), metadata_form(("team", "blue"), ("env", "prod"), base=seen_by_bob))

    assert sandbox.metadata(run.upstream_id) == {"team": "red", "env": "prod"}
    assert {edit.status for edit in Edit.objects.all()} == {EditStatus.APPLIED}


@pytest.mark.parametrize("base", ["", "forged", "eyJydW4iOjF9:aaaa:bbbb"])
def test_invalid_base_is_refused(mirror_run: MakeRun, as_alice: Client, base: str) -> None:
    run = mirror_run(metadata={"team": "blue"})

    response = as_alice.post(run_url(run, "metadata"), metadata_form(("team", "red"), base=base))

    assert response.status_code == 422
    assert "Make your changes again" in response.text
    assert not Edit.objects.exists()


def test_base_of_another_run_is_refused(mirror_run: MakeRun, as_alice: Client) -> None:
    run, other = mirror_run(metadata={"team": "blue"}), mirror_run(metadata={"team": "green"})

    response = as_alice.post(run_url(run, "metadata"), metadata_form(("team", "red"), base=base_field(as_alice, other)))

    assert response.status_code == 422
    assert not Edit.objects.exists()


def test_untypable_values_are_kept_unless_unticked(sandbox: Sandbox, mirror_run: MakeRun, as_alice: Client) -> None:
    sandbox.settings(check_limits=False)
    odd = {"count": 5, "crlf": "a\r\nb", "flag": None}
    run = mirror_run(metadata={"team": "blue", **odd})
    base = base_field(as_alice, run)

    as_alice.post(run_url(run, "metadata"), metadata_form(("team", "red"), base=base, keep=["1", "2", "3"]))  # type: ignore[arg-type]
    assert sandbox.metadata(run.upstream_id) == {"team": "red", **odd}

    base = base_field(as_alice, run)
    as_alice.post(run_url(run, "metadata"), metadata_form(("team", "red"), base=base, keep=["2", "3"]))  # type: ignore[arg-type]
    assert sandbox.metadata(run.upstream_id) == {"team": "red", "crlf": "a\r\nb", "flag": None}


def test_line_breaks_survive_the_form(sandbox: Sandbox, mirror_run: MakeRun, as_alice: Client) -> None:
    run = mirror_run(metadata={"note": "\nfirst\nsecond", "team": "blue"})
    form = metadata_form(("note", "\r\nfirst\r\nsecond"), ("team", "red"), base=base_field(as_alice, run))

    as_alice.post(run_url(run, "metadata"), form)

    assert Edit.objects.get().patch.as_merge_patch() == {"team": "red"}
    assert sandbox.metadata(run.upstream_id)["note"] == "\nfirst\nsecond"


def test_viewer_gets_no_form_and_no_edit(
    sandbox: Sandbox, mirror_run: MakeRun, as_alice: Client, as_carol: Client
) -> None:
    run = mirror_run(metadata={"team": "blue"})
    form = metadata_form(("team", "red"), base=base_field(as_alice, run))
    sandbox.clear_log()

    assert as_carol.get(run_url(run, "metadata")).status_code == 403
    assert as_carol.post(run_url(run, "metadata"), form).status_code == 403
    assert "Edit metadata" not in as_carol.get(run_url(run)).text
    assert not Edit.objects.exists()
    assert sandbox.log() == []


def test_forged_request_is_refused(mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue"})
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    base = base_field(client, run)

    form = metadata_form(("team", "red"), base=base)
    assert client.post(run_url(run, "metadata"), form).status_code == 403
    assert run_action(client, run, "refresh").status_code == 403
    assert not Edit.objects.exists()
