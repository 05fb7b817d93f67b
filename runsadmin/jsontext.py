"""JSON text that survives what real servers send: halves of surrogate pairs and huge numbers included.

orjson does the work; what it refuses goes through the standard library, which is slower and more tolerant.
"""

import json
from typing import Any, NoReturn

import orjson


def loads(text: str | bytes) -> Any:
    """Raises ValueError when this is not JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            return json.loads(text, parse_constant=_refuse)
        except RecursionError:
            raise ValueError("The JSON is nested too deeply.") from None


def dumps(value: Any, *, sort_keys: bool = False) -> str:
    """The value as text that every database can store."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort_keys else None).decode()
    except orjson.JSONEncodeError:
        return json.dumps(value, ensure_ascii=True, separators=(",", ":"), sort_keys=sort_keys)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON.")
