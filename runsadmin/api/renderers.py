from collections.abc import Mapping
from typing import Any

import orjson
from rest_framework import renderers

from runsadmin import lenient_json


class JSONRenderer(renderers.JSONRenderer):
    """JSON that may contain anything that upstreams send, such as lone surrogates."""

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        if data is None:
            return b""
        try:
            return orjson.dumps(data)  # Also accepts an `orjson.Fragment`, which is already JSON.
        except orjson.JSONEncodeError:
            return lenient_json.dumps(data).encode()


class FileRenderer(JSONRenderer):
    """For responses that are a file, whose type the `Accept` header may name. Errors are JSON."""

    media_type = "*/*"
