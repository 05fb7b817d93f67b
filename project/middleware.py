from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware


class CompressionMiddleware(GZipMiddleware):
    """Compresses what has no ETag: compressing makes a strong tag weak, and a weak tag never satisfies If-Match.

    Against BREACH, Django pads every compressed answer by a random length, and masks its CSRF token anew each time.
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> Any:
        return response if response.has_header("ETag") else super().process_response(request, response)
