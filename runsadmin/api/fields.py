"""Fields of request bodies. Each accepts only its own JSON type and converts nothing."""

import datetime as dt
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from runsadmin import conf, search
from runsadmin.errors import InvalidColumns, UnknownConnection
from runsadmin.metadata import MAX_KEY_LENGTH, MAX_VALUE_LENGTH, Metadata, MetadataPatch
from runsadmin.models import Thread
from runsadmin.services import run_columns
from runsadmin.text import is_text

MAX_ERRORS = 100

# PostgreSQL cannot store U+0000.
TEXT = {"type": "string", "pattern": r"^[^\u0000]*$"}
KEY = TEXT | {"minLength": 1, "maxLength": MAX_KEY_LENGTH}


class _StrictField(serializers.Field[Any, Any, Any, Any]):
    types: ClassVar[tuple[type, ...]]

    def to_internal_value(self, data: Any) -> Any:
        if type(data) not in self.types:
            self.fail("invalid", input=data)
        return super().to_internal_value(data)


class StringField(_StrictField, serializers.CharField):
    """A JSON string. Surrounding whitespace is kept."""

    types = (str,)

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"trim_whitespace": False} | options)


class IntegerField(_StrictField, serializers.IntegerField):
    """A JSON number."""

    types = (int, float)


@extend_schema_field({"type": "string", "maxLength": search.MAX_LENGTH})
class SearchField(StringField):
    """A search. The parser checks its length as well, so that every entry point reports the same error."""


@extend_schema_field({"type": "string", "minLength": 1, "maxLength": run_columns.MAX_LENGTH})
class ColumnsField(StringField):
    """Names of columns, separated by commas."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            help_text="The columns of a CSV or Parquet file, such as `id,status,metadata.team`. Default: all.",
            **options,
        )

    def to_internal_value(self, data: Any) -> list[run_columns.Column]:
        try:
            return run_columns.parse(super().to_internal_value(data))
        except InvalidColumns as error:
            raise serializers.ValidationError(str(error), code="invalid") from None


class TimeZoneField(StringField):
    """The name of the time zone of a search."""

    def __init__(self) -> None:
        super().__init__(
            default=dt.UTC, help_text="The time zone of the dates and times in `q`, such as `Europe/Berlin`."
        )

    def to_internal_value(self, data: Any) -> dt.tzinfo:
        try:
            return search.time_zone(super().to_internal_value(data))
        except ValueError as error:
            raise serializers.ValidationError(str(error), code="invalid") from None


class ChoiceField(serializers.ChoiceField):
    """One of a few texts. The error lists them."""

    def __init__(self, choices: Any, **options: Any) -> None:
        super().__init__(choices, **options)
        known = ", ".join(map(str, self.choices))
        self.error_messages["invalid_choice"] = f'"{{input}}" is not a valid choice. Use one of: {known}.'


class TimeField(serializers.DateTimeField):
    """A time, or a date: its first moment."""

    default_error_messages = {"invalid": "Use ISO 8601, such as 2026-01-31 or 2026-01-31T09:00:00Z."}


class BooleanField(_StrictField, serializers.BooleanField):
    """true or false."""

    types = (bool,)


class ConnectionField(StringField):
    """The alias of a configured connection. Raises UnknownConnection, which lists the known ones."""

    def to_internal_value(self, data: Any) -> str:
        return conf.connection(super().to_internal_value(data)).alias


class MirroredConnectionField(StringField):
    """The alias of a connection to read from: one that is configured, or that was when its threads were tracked."""

    def to_internal_value(self, data: Any) -> str:
        alias: str = super().to_internal_value(data)
        try:
            return conf.connection(alias).alias
        except UnknownConnection:
            if not (is_text(alias) and Thread.objects.filter(connection=alias).exists()):
                raise
            return alias


def the_only_connection() -> str:
    """The default of a ConnectionField: the only upstream. Raises ValidationError if several are configured."""
    if (alias := conf.default_upstream()) is None:
        aliases = ", ".join(conf.upstreams())
        raise serializers.ValidationError(f"Name one of the connections: {aliases}.", code="required")
    return alias


@extend_schema_field(
    {
        "type": "object",
        "additionalProperties": TEXT | {"type": ["string", "null"], "maxLength": MAX_VALUE_LENGTH},
        "propertyNames": KEY,
        "minProperties": 1,
        "examples": [{"team": "search", "old": None}],
    }
)
class MetadataPatchField(serializers.Field[MetadataPatch, Any, Any, Any]):
    """A JSON merge patch of the metadata. Raises InvalidMetadata with every error."""

    def to_internal_value(self, data: Any) -> MetadataPatch:
        return MetadataPatch.parse(data)


@extend_schema_field({"type": "object", "additionalProperties": True, "examples": [{"team": "ads"}]})
class MetadataField(serializers.Field[Metadata, Any, Any, Any]):
    """The metadata of a run, as a response showed it. Null and an empty object are the same."""

    def validate_empty_values(self, data: Any) -> tuple[bool, Any]:
        return super().validate_empty_values({} if data is None else data)

    def to_internal_value(self, data: Any) -> Metadata:
        if not isinstance(data, Mapping):
            raise serializers.ValidationError("Must be an object: the metadata that you saw.", code="invalid")
        return Metadata(data)


class DescribedField(serializers.Field[Any, Any, Any, Any]):
    """A field with a JSON schema of its own."""

    def __init__(self, *, schema: Mapping[str, Any], **options: Any) -> None:
        super().__init__(**options)
        self.schema = schema


class UpstreamField(DescribedField):
    """A field of a run, passed on as upstream sent it. `types` are the documented JSON types besides null."""

    def __init__(self, *types: str, **schema: Any) -> None:
        super().__init__(schema={"type": [*types, "null"], **schema})


def _require_strings(items: Iterable[tuple[Any, Any]]) -> None:
    """Raises ValidationError, by name or index, for the first values that are not strings."""
    wrong = ((name, ["Must be a string."]) for name, value in items if not isinstance(value, str))
    if errors := dict(islice(wrong, MAX_ERRORS)):
        raise serializers.ValidationError(errors, code="invalid")


class StringMapField(DescribedField):
    """An object of strings. `BulkPatch` checks its keys and values, together with those of the other fields."""

    def __init__(self, *, values: Mapping[str, Any], **options: Any) -> None:
        super().__init__(schema={"type": "object", "additionalProperties": values, "propertyNames": KEY}, **options)

    def to_internal_value(self, data: Any) -> dict[str, str]:
        if not isinstance(data, Mapping):
            raise serializers.ValidationError("Must be an object of strings.", code="invalid")
        _require_strings(data.items())
        return dict(data)


class StringListField(DescribedField):
    """Like ListField(child=StringField()), which would take seconds for 100,000 items."""

    def to_internal_value(self, data: Any) -> list[str]:
        if not isinstance(data, list):
            raise serializers.ValidationError("Must be a list of strings.", code="invalid")
        _require_strings(enumerate(data))
        return data


class IdListField(StringListField):
    def __init__(self, *, max_length: int, advice: str, **options: Any) -> None:
        ids = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": max_length}
        super().__init__(schema=ids, **options)
        self.max_length, self.advice = max_length, advice

    def to_internal_value(self, data: Any) -> list[str]:
        ids = super().to_internal_value(data)
        if not 1 <= len(ids) <= self.max_length:
            raise serializers.ValidationError(
                f"Must contain 1 to {self.max_length:,} ids, not {len(ids):,}. {self.advice}", code="invalid"
            )
        return ids
