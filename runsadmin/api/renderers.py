from collections.abc import Mapping
from typing import Any

from rest_framework import renderers

from runsadmin import lenient_json


class JSONRenderer(renderers.JSONRenderer):
    """JSON that may contain anything that upstreams send, such as lone surrogates."""

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        return b"" if data is None else lenient_json.dumps(data).encode()
