"""Refusals for metadata over a limit, with the messages of the vendor's service."""

from typing import Any

import pytest

from tests.sandbox.conftest import Api, error_of
from tests.sandbox_client import Sandbox, make_run

REFUSED: list[tuple[dict[str, Any], str, str, str]] = [
    (
        {f"k{number}": "v" for number in range(17)},
        (
            "Invalid 'metadata': too many properties. Expected an object with at most 16 properties, but got an object "
            "with 17 properties instead."
        ),
        "object_above_max_properties",
        "metadata",
    ),
    (
        {"k": "v" * 695},
        (
            "Invalid 'metadata.k': string too long. Expected a string with maximum length 512, but got a string with "
            "length 695 instead."
        ),
        "string_above_max_length",
        "metadata.k",
    ),
    (
        {"k" * 70: "v"},
        (
            "Invalid property name in 'metadata': 'kkk...kkk' is too long. Expected a string with maximum length 64, "
            "but got a string with length 70 instead."
        ),
        "property_name_above_max_length",
        "metadata." + "k" * 70,
    ),
    *(
        (
            {"modified": value},
            f"Invalid type for 'metadata.modified': expected a string, but got {name} instead.",
            "invalid_type",
            "metadata.modified",
        )
        for value, name in [
            (True, "a boolean"),
            (1, "an integer"),
            (1.5, "a decimal number"),
            (None, "null"),
            (["a"], "an array"),
            ({"a": "b"}, "an object"),
        ]
    ),
]


@pytest.mark.parametrize(("metadata", "message", "code", "param"), REFUSED)
def test_refusal_has_the_message_of_the_vendor(
    sandbox: Sandbox, api: Api, metadata: dict[str, Any], message: str, code: str, param: str
) -> None:
    sandbox.put_runs([run := make_run(metadata={"team": "blue"})])
    response = api.modify(run, metadata)
    assert response.status_code == 400
    assert error_of(response) == {
        "message": message,
        "type": "invalid_request_error",
        "param": param,
        "code": code,
    }
    assert sandbox.metadata(run["id"]) == {"team": "blue"}
    assert [entry["kept"] for entry in sandbox.log()] == [False]


def test_limits_count_characters_not_bytes(sandbox: Sandbox, api: Api) -> None:
    sandbox.put_runs([run := make_run()])
    metadata = {f"{number:02d}{'ä' * 62}": "🙂" * 512 for number in range(16)}
    assert api.modify(run, metadata).json()["metadata"] == metadata


@pytest.mark.parametrize("metadata", ["text", ["team"], 7, True])
def test_metadata_must_be_a_map(sandbox: Sandbox, api: Api, metadata: object) -> None:
    sandbox.put_runs([run := make_run()])
    response = api.modify(run, metadata)
    assert response.status_code == 400
    assert error_of(response)["param"] == "metadata"


def test_unchecked_upstream_stores_anything(sandbox: Sandbox, api: Api) -> None:
    sandbox.settings(check_limits=False)
    sandbox.put_runs([run := make_run()])
    metadata = {f"k{number}": "v" * 600 for number in range(20)} | {"k" * 70: True, "list": [1, None]}
    assert api.modify(run, metadata).json()["metadata"] == metadata
    assert sandbox.metadata(run["id"]) == metadata


def test_active_runs_can_be_made_modifiable(sandbox: Sandbox, api: Api) -> None:
    sandbox.settings(refuse_active=False)
    sandbox.put_runs([run := make_run(status="in_progress")])
    assert api.modify(run, {"team": "red"}).status_code == 200


def test_merging_upstream_keeps_other_keys(sandbox: Sandbox, api: Api) -> None:
    sandbox.settings(modify="merge")
    sandbox.put_runs([run := make_run(metadata={"team": "blue", "old": "1"})])
    assert api.modify(run, {"team": "red", "new": ""}).json()["metadata"] == {"team": "red", "old": "1", "new": ""}
    assert api.modify(run, {}).json()["metadata"] == {"team": "red", "old": "1", "new": ""}
    response = api.modify(run, {f"k{number}": "v" for number in range(16)})
    assert error_of(response)["code"] == "object_above_max_properties"


def test_scrambling_upstream_changes_values(sandbox: Sandbox, api: Api) -> None:
    sandbox.settings(modify="scramble")
    sandbox.put_runs([run := make_run()])
    for metadata in ({"team": "red"}, {}):
        returned = api.modify(run, metadata).json()["metadata"]
        assert returned != metadata
        assert sandbox.metadata(run["id"]) == returned
