"""Properties of metadata, patches and merges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runsadmin.errors import InvalidMetadata
from runsadmin.metadata import Metadata, MetadataPatch, merge3

# Few keys and values, so that maps often overlap.
KEYS = st.sampled_from(["team", "ticket", "env", "owner"])
VALUES = st.sampled_from(["", "a", "b", "🙂", "=cmd()"])
MAPS = st.dictionaries(KEYS, VALUES).map(Metadata)
PATCHES = st.builds(MetadataPatch.between, MAPS, MAPS)


@given(MAPS, MAPS)
def test_patch_between_maps_turns_one_into_other(a: Metadata, b: Metadata) -> None:
    assert MetadataPatch.between(a, b).apply(a) == b


@given(MAPS, PATCHES)
def test_difference_undoes_a_patch(before: Metadata, patch: MetadataPatch) -> None:
    after = patch.apply(before)
    assert MetadataPatch.between(after, before).apply(after) == before


@given(MAPS, PATCHES)
def test_applying_a_patch_twice_changes_nothing(metadata: Metadata, patch: MetadataPatch) -> None:
    assert patch.apply(patch.apply(metadata)) == patch.apply(metadata)


@given(MAPS, MAPS, MAPS)
def test_clean_merge_is_symmetric(base: Metadata, ours: Metadata, theirs: Metadata) -> None:
    one = merge3(MetadataPatch.between(base, ours), base=base, theirs=theirs)
    other = merge3(MetadataPatch.between(base, theirs), base=base, theirs=ours)
    assert {conflict.key for conflict in one.conflicts} == {conflict.key for conflict in other.conflicts}
    if not one.conflicts:
        assert one.result == other.result


@given(MAPS, MAPS, PATCHES)
def test_merge_keeps_untouched_keys(base: Metadata, theirs: Metadata, patch: MetadataPatch) -> None:
    result = merge3(patch, base=base, theirs=theirs).result
    untouched = (base.keys() | theirs.keys()) - patch.keys
    assert {key: result.get(key) for key in untouched} == {key: theirs.get(key) for key in untouched}


@given(MAPS, PATCHES)
def test_merge_into_base_has_no_conflict(base: Metadata, patch: MetadataPatch) -> None:
    merge = merge3(patch, base=base, theirs=base)
    assert (merge.result, merge.conflicts) == (patch.apply(base), ())


@given(PATCHES, MAPS)
def test_patch_survives_json(patch: MetadataPatch, metadata: Metadata) -> None:
    assert MetadataPatch.parse(patch.as_merge_patch()) == patch


@given(PATCHES, st.sets(KEYS))
def test_part_of_patch_has_only_its_keys(patch: MetadataPatch, keys: set[str]) -> None:
    assert patch.only(keys).keys == patch.keys & keys


def test_conflict_shows_base_theirs_and_ours() -> None:
    merge = merge3(MetadataPatch({"team": "c"}), base={"team": "a"}, theirs={"team": "b"})
    (conflict,) = merge.conflicts
    assert (conflict.key, conflict.base, conflict.theirs, conflict.ours) == ("team", "a", "b", "c")


def test_same_change_is_not_a_conflict() -> None:
    assert not merge3(MetadataPatch({"team": "b"}), base={"team": "a"}, theirs={"team": "b"}).conflicts
    assert not merge3(MetadataPatch(remove=frozenset({"team"})), base={"team": "a"}, theirs={}).conflicts


def test_limits_count_code_points() -> None:
    MetadataPatch.parse({"🙂" * 64: "🙂" * 512})
    with pytest.raises(InvalidMetadata, match="65 characters"):
        MetadataPatch.parse({"🙂" * 65: "x"})
    with pytest.raises(InvalidMetadata, match="513 characters"):
        MetadataPatch.parse({"k": "🙂" * 513})


def test_sixteen_pairs_are_the_limit() -> None:
    sixteen = {f"k{number}": "v" for number in range(16)}
    MetadataPatch.parse(sixteen).check({})
    with pytest.raises(InvalidMetadata, match="17 pairs"):
        MetadataPatch.parse({"extra": "v"}).check(sixteen)
    with pytest.raises(InvalidMetadata, match="17 pairs"):
        MetadataPatch.parse(sixteen | {"extra": "v"})


def test_map_over_limit_may_not_grow() -> None:
    twenty = {f"k{number}": "v" for number in range(20)}
    MetadataPatch({"k0": "w"}).check(twenty)
    MetadataPatch(remove=frozenset({"k0"})).check(twenty)
    with pytest.raises(InvalidMetadata):
        MetadataPatch({"new": "v"}).check(twenty)


@pytest.mark.parametrize(
    ("merge_patch", "code"),
    [
        ([], "invalid_type"),
        ("team", "invalid_type"),
        ({"team": 1}, "invalid_type"),
        ({"team": True}, "invalid_type"),
        ({"team": {"a": "b"}}, "invalid_type"),
        ({"": "x"}, "empty_key"),
        ({"": None}, "empty_key"),
        ({"a\0b": "x"}, "invalid_character"),
        ({"a": "x\0"}, "invalid_character"),
        ({"a": "\ud800"}, "invalid_character"),
        ({"k" * 65: "x"}, "key_too_long"),
        ({"k": "x" * 513}, "value_too_long"),
    ],
)
def test_invalid_value_is_refused_with_reason(merge_patch: object, code: str) -> None:
    with pytest.raises(InvalidMetadata) as caught:
        MetadataPatch.parse(merge_patch)
    assert [error.code for error in caught.value.errors] == [code]


def test_every_error_is_reported() -> None:
    with pytest.raises(InvalidMetadata) as caught:
        MetadataPatch.parse({"": "x", "k": 1, "long": "x" * 600})
    assert [error.code for error in caught.value.errors] == ["empty_key", "invalid_type", "value_too_long"]


def test_key_is_not_both_set_and_removed() -> None:
    with pytest.raises(InvalidMetadata, match="both set and removed"):
        MetadataPatch({"a": "b"}, frozenset({"a"}))


@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_metadata_that_is_not_a_map_is_empty(value: object) -> None:
    assert Metadata.read(value) == {}


def test_non_text_values_are_kept() -> None:
    theirs = Metadata.read({"n": 1, "deep": {"a": [True]}, "team": "a"})
    assert merge3(MetadataPatch({"team": "b"}), base=theirs, theirs=theirs).result == {
        "n": 1,
        "deep": {"a": [True]},
        "team": "b",
    }
