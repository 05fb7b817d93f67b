import os
from collections.abc import Iterable
from io import BytesIO
from typing import Any

from django.core.checks import Tags, run_checks
from django.core.management.base import SystemCheckError
from django.core.wsgi import get_wsgi_application

from project import bodies

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

_django = get_wsgi_application()


def check_settings() -> None:
    """`manage.py` does so by itself before each command. Raises SystemCheckError, which repeats no secret."""
    if wrong := [
        each for each in run_checks(tags=[Tags.compatibility]) if each.is_serious() and not each.is_silenced()
    ]:
        raise SystemCheckError("\n".join(str(each) for each in wrong))


check_settings()


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Django takes a body that comes in chunks, of a length that nobody announced, for an empty one.

    So it is read here: no more of it than what is refused (project.middleware.BoundedBodyMiddleware).
    """
    environ.pop("DATABASE_URL", None)  # Granian hands over its own environment, and debug pages show it.
    if environ.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked" and environ.get("wsgi.input_terminated"):
        body = environ["wsgi.input"].read(bodies.largest(environ.get("PATH_INFO", "")) + 1)
        environ |= {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    return _django(environ, start_response)
