"""The project's own settings, with a log handler that can kill a process at a step of a push or a sync."""

from typing import Any, cast

from loadtests.crash_points import OBSERVED
from project.settings import *  # noqa: F403
from project.settings import LOGGING

_logging = cast("dict[str, Any]", LOGGING)
_logging["handlers"]["crash"] = {"class": "loadtests.crash_points.CrashHandler"}
for _name in OBSERVED:
    _logging["loggers"][_name] = {"level": "DEBUG", "handlers": ["crash"]}
