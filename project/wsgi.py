import os
from collections.abc import Iterable
from io import BytesIO
from typing import Any

from django.core.checks import Tags, run_checks
from django.core.management.base import SystemCheckError
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

_django = get_wsgi_application()

from project.middleware import max_body_size  # noqa: E402 - the import needs loaded apps.


def check_settings() -> None:
    """Runs the checks that `manage.py` runs before each command. Raises SystemCheckError, whose text has no secrets."""
    if errors := [
        message for message in run_checks(tags=[Tags.compatibility])
        if message.is_serious() and not message.is_silenced()
    ]:  # fmt: skip
        raise SystemCheckError("\n".join(str(error) for error in errors))


check_settings()


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Buffers chunked bodies: Django treats a body without a Content-Length as empty.

    Reads at most one byte more than is allowed, so that project.middleware.BoundedBodyMiddleware rejects larger bodies.
    """
    environ.pop("DATABASE_URL", None)  # Granian adds its environment, which debug pages would show.
    if environ.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked" and environ.get("wsgi.input_terminated"):
        body = environ["wsgi.input"].read(max_body_size(environ.get("PATH_INFO", "")) + 1)
        environ |= {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    return _django(environ, start_response)
