"""JSON in and out. What comes in is read strictly, since it is about to be written somewhere."""

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer

from runsadmin import lenient_json

# Nothing that this API takes is nested deeper than a few levels.
MAX_DEPTH = 32


class JSONParser(BaseParser):
    """JSON without duplicate keys: which of the two was meant, nobody can tell.

    Django bounds the body (DATA_UPLOAD_MAX_MEMORY_SIZE).
    """

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        assert parser_context is not None
        try:
            text = parser_context["request"].body.decode()
            value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse, parse_float=_float)
        except RecursionError:
            raise ParseError("The JSON is nested too deeply.") from None
        except ValueError as error:
            raise ParseError(f"The body is not JSON: {error}") from None
        if not _is_flat_enough(value):
            raise ParseError("The JSON is nested too deeply.")
        return value


class MergePatchParser(JSONParser):
    media_type = "application/merge-patch+json"


class JSONRenderer(BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None  # JSON is UTF-8 and says so nowhere.

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        return b"" if data is None else lenient_json.dumps(data).encode()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise ValueError(f"the key {key[:100]!r} stands twice in one object.")
        value[key] = item
    return value


def _float(digits: str) -> float:
    if math.isinf(value := float(digits)):
        raise ValueError(f"the number {digits[:20]} is too large.")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no value in JSON.")


def _is_flat_enough(value: Any, left: int = MAX_DEPTH) -> bool:
    match value:
        case dict():
            return left > 0 and all(_is_flat_enough(item, left - 1) for item in value.values())
        case list():
            return left > 0 and all(_is_flat_enough(item, left - 1) for item in value)
        case _:
            return True
