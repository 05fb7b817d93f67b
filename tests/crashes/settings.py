"""The project's own settings, from the environment, and a seam: the steps of a push go to a handler that may kill."""

from typing import Any, cast

from project.settings import *  # noqa: F403
from project.settings import LOGGING
from tests.crashes.seam import OBSERVED

_logging = cast("dict[str, Any]", LOGGING)
_logging["handlers"]["seam"] = {"class": "tests.crashes.seam.Seam"}
for _name in OBSERVED:
    _logging["loggers"][_name] = {"level": "DEBUG", "handlers": ["seam"]}
