from collections.abc import Mapping
from typing import Any

from rest_framework.renderers import BaseRenderer

from runsadmin import lenient_json


class JSONRenderer(BaseRenderer):
    """JSON that may contain whatever upstreams send, such as a lone surrogate."""

    media_type = "application/json"
    format = "json"
    charset = None  # application/json has no charset parameter.

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        return b"" if data is None else lenient_json.dumps(data).encode()
