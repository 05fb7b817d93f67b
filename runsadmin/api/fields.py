"""Fields of request bodies. They take the JSON type that they name, and convert nothing."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from runsadmin import conf
from runsadmin.metadata import MAX_KEY_LENGTH, MAX_VALUE_LENGTH, Metadata, MetadataPatch

MAX_ERRORS = 100
MAX_SEARCH_LENGTH = 4_000

# No database stores U+0000 in a text.
_NO_NUL = r"^[^\u0000]*$"
_KEY = {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH, "pattern": _NO_NUL}


class StringField(serializers.CharField):
    """A JSON string, with its spaces."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"trim_whitespace": False} | options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class SearchField(StringField):
    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_length": MAX_SEARCH_LENGTH} | options)


class IntegerField(serializers.IntegerField):
    """A JSON number."""

    def to_internal_value(self, data: Any) -> int:
        if type(data) not in (int, float):
            self.fail("invalid")
        return super().to_internal_value(data)


class BooleanField(serializers.BooleanField):
    """true or false."""

    def to_internal_value(self, data: Any) -> bool:
        if type(data) is not bool:
            self.fail("invalid", input=data)
        return data


class ConnectionField(StringField):
    """The alias of a configured connection. Raises UnknownConnection, which lists them."""

    def to_internal_value(self, data: Any) -> str:
        return conf.connection(super().to_internal_value(data)).alias


@extend_schema_field(
    {
        "type": "object",
        "additionalProperties": {"type": ["string", "null"], "maxLength": MAX_VALUE_LENGTH, "pattern": _NO_NUL},
        "propertyNames": {"minLength": 1, "maxLength": MAX_KEY_LENGTH, "pattern": _NO_NUL},
        "minProperties": 1,
        "examples": [{"team": "search", "old": None}],
    }
)
class MetadataPatchField(serializers.Field[MetadataPatch, Any, Any, Any]):
    """A JSON merge patch of the metadata. Raises InvalidMetadata, with every error."""

    def to_internal_value(self, data: Any) -> MetadataPatch:
        return MetadataPatch.parse(data)


@extend_schema_field({"type": "object", "additionalProperties": True, "examples": [{"team": "ads"}]})
class MetadataField(serializers.Field[Metadata, Any, Any, Any]):
    """The metadata of a run, as a response showed it. Null and an empty object are the same."""

    def to_internal_value(self, data: Any) -> Metadata:
        if not isinstance(data, Mapping):
            raise serializers.ValidationError("Must be an object: the metadata that you saw.", code="invalid")
        return Metadata(data)


class UpstreamField(serializers.JSONField):
    """A field of a run, passed on as upstream sent it. `types` are the documented JSON types besides null."""

    def __init__(self, *types: str, help_text: str, **schema: Any) -> None:
        super().__init__(help_text=help_text)
        self.schema = {"type": [*types, "null"], **schema}


def _require_strings(items: Iterable[tuple[Any, Any]]) -> None:
    """Raises ValidationError, by name or index, for the first values that are not strings."""
    wrong = ((name, ["Must be a string."]) for name, value in items if not isinstance(value, str))
    if errors := dict(islice(wrong, MAX_ERRORS)):
        raise serializers.ValidationError(errors, code="invalid")


class _StringMapField(serializers.Field[dict[str, str], Any, Any, Any]):
    """An object of strings. `BulkPatch` checks its keys and values, together with those of the other fields."""

    def to_internal_value(self, data: Any) -> dict[str, str]:
        if not isinstance(data, Mapping):
            raise serializers.ValidationError("Must be an object of strings.", code="invalid")
        _require_strings(data.items())
        return dict(data)


@extend_schema_field(
    {
        "type": "object",
        "additionalProperties": {"type": "string", "pattern": _NO_NUL},
        "propertyNames": _KEY,
        "examples": [{"team": "search", "batch": "{model} of {created:%Y-%m}"}],
    }
)
class PairsToSetField(_StringMapField):
    pass


@extend_schema_field(
    {"type": "object", "additionalProperties": _KEY, "propertyNames": _KEY, "examples": [{"owner": "team"}]}
)
class KeysToRenameField(_StringMapField):
    pass


class _StringListField(serializers.Field[list[str], Any, Any, Any]):
    """Does what ListField(child=StringField()) does, which takes seconds for 100,000 items."""

    def to_internal_value(self, data: Any) -> list[str]:
        if not isinstance(data, list):
            raise serializers.ValidationError("Must be a list of strings.", code="invalid")
        _require_strings(enumerate(data))
        return data


@extend_schema_field({"type": "array", "items": _KEY, "uniqueItems": True, "examples": [["old"]]})
class KeysToRemoveField(_StringListField):
    pass


class _IdListField(_StringListField):
    max_length: ClassVar[int]
    advice: ClassVar[str]

    def to_internal_value(self, data: Any) -> list[str]:
        ids = super().to_internal_value(data)
        if not 1 <= len(ids) <= self.max_length:
            raise serializers.ValidationError(
                f"Must hold 1 to {self.max_length:,} ids, not {len(ids):,}. {self.advice}", code="invalid"
            )
        return ids


def _id_list(max_length: int, examples: list[str]) -> dict[str, Any]:
    return {
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
        "maxItems": max_length,
        "examples": [examples],
    }


@extend_schema_field(_id_list(100_000, ["run_abc123", "run_abc456"]))
class RunIdsField(_IdListField):
    max_length = 100_000
    advice = "A search (`q`) has no limit."


@extend_schema_field(_id_list(10_000, ["thread_abc123", "thread_abc456"]))
class ThreadIdsField(_IdListField):
    max_length = 10_000
    advice = "Send more in several requests."
