"""JSON request bodies, parsed strictly, since their content is written upstream."""

import math
from collections.abc import Mapping
from typing import Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.utils import json

# Valid bodies are only a few levels deep.
MAX_DEPTH = 32


class JSONParser(BaseParser):
    """Rejects duplicate keys, since it is unclear which of them is meant.

    Django limits the size of the body (DATA_UPLOAD_MAX_MEMORY_SIZE).
    """

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        assert parser_context is not None
        try:
            text = parser_context["request"].body.decode()
            # REST framework's json rejects NaN and Infinity.
            value = json.loads(text, object_pairs_hook=_object, parse_float=_float)
            too_deep = _depth(value) > MAX_DEPTH
        except RecursionError:
            too_deep = True
        except ValueError as error:
            raise ParseError(f"The body is not valid JSON: {error}") from None
        if too_deep:
            raise ParseError("The JSON is nested too deeply.")
        return value


class MergePatchParser(JSONParser):
    media_type = "application/merge-patch+json"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise ValueError(f"the key {key[:100]!r} occurs twice in one object.")
        value[key] = item
    return value


def _float(digits: str) -> float:
    if math.isinf(value := float(digits)):
        raise ValueError(f"the number {digits[:20]} is too large.")
    return value


def _depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)
