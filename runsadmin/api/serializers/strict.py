"""The base classes of request serializers."""

from collections.abc import Mapping
from typing import Any, ClassVar

from rest_framework import serializers

from runsadmin.api.fields import MirroredConnectionField, StringField
from runsadmin.api.pagination import MAX_PAGE_SIZE, PAGE_SIZE
from runsadmin.models.bulk_edit import MAX_REASON_LENGTH


class StrictSerializer(serializers.Serializer[Any]):
    """A request body. Unknown fields are an error that lists the known ones."""

    noun: ClassVar[str] = "field"
    # Shown in the schema, by title.
    examples: ClassVar[Mapping[str, Any]] = {}
    # Exactly one of these fields is required. In the schema, the body with each field has the name given here.
    one_of: ClassVar[Mapping[str, str]] = {}
    default_error_messages = {"null": "The body must be a JSON object."}

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and (unknown := [str(name) for name in data if name not in self.fields]):
            known = f"Known: {', '.join(self.fields)}." if self.fields else f"This request accepts no {self.noun}s."
            raise serializers.ValidationError(
                {name[:100]: [f"Unknown {self.noun}. {known}"] for name in unknown}, code=f"unknown_{self.noun}"
            )
        return super().to_internal_value(data)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if self.one_of and sum(name in attrs for name in self.one_of) != 1:
            names = " or ".join(f"`{name}`" for name in self.one_of)
            raise serializers.ValidationError(f"Send either {names}.", code="required")
        return attrs


class ReasonField(StringField):
    """The optional reason of an edit."""

    def __init__(self) -> None:
        super().__init__(
            default="", allow_blank=True, max_length=MAX_REASON_LENGTH, help_text="The reason for the edit."
        )


class QuerySerializer(StrictSerializer):
    """The query parameters of a request."""

    noun = "parameter"


class PageQuery(QuerySerializer):
    cursor = StringField(required=False, help_text="A position in the list, taken from `next` or `previous`.")
    page_size = serializers.IntegerField(
        default=PAGE_SIZE, min_value=1, max_value=MAX_PAGE_SIZE, help_text="The maximum number of rows on a page."
    )


class ConnectionQuery(QuerySerializer):
    connection = MirroredConnectionField(
        required=False, help_text="The alias of a connection. Required if several connections have this id."
    )
