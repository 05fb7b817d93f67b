"""Reads settings from the environment. A missing or invalid setting prevents startup, with an error that says how to
fix it.

django-environ's own casts are lenient (a mistyped boolean is false, "12abc" is 12.0, a value that begins with "$" names
another variable), so only its parsing of files and database URLs is used. Error messages never contain a value, which
may be a secret.
"""

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from runsadmin import private_files

_YES_OR_NO = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}


class Environment:
    """The process environment, which overrides the file. `names` collects the names of all settings that were read."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def read_file(self, path: str | Path) -> None:
        # It has secrets. The account of a service may read it as a member of its group.
        private_files.protect(Path(path), group_may_read=True)
        environ.Env.read_env(path)

    def text(self, name: str, default: str | None = None, *, fix: str = "") -> str:
        """The value, or the default if it is missing or empty. Without a default it is required."""
        self.names.add(name)
        value = os.environ.get(name, "").strip()
        if value:
            return value
        if default is None:
            raise _improper(f"The setting {name} is missing. {fix}")
        return default

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        value = self.text(name, default)
        if value not in choices:
            raise _invalid(name, f"It must be one of: {', '.join(choices)}.")
        return value

    def switch(self, name: str, *, default: bool) -> bool:
        value = self.text(name, "on" if default else "off").lower()
        if value not in _YES_OR_NO:
            raise _invalid(name, "It must be on or off.")
        return _YES_OR_NO[value]

    def comma_separated(self, name: str, default: str) -> list[str]:
        return [part.strip() for part in self.text(name, default).split(",") if part.strip()]

    def aliases(self, name: str, default: str) -> list[str]:
        """A comma-separated list of names that can be part of the names of other settings."""
        aliases = self.comma_separated(name, default)
        if not all(re.fullmatch(r"[a-z][a-z0-9_]*", alias) for alias in aliases):
            raise _invalid(
                name,
                "It must be a comma-separated list of names in lower-case letters, digits and underscores, such as"
                " default,eu.",
            )
        return aliases

    def integer(self, name: str, default: int, *, minimum: int = 0) -> int:
        try:
            value = int(self.text(name, str(default)))
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise _invalid(name, f"It must be a whole number, {minimum} or more (the default is {default}).")
        return value

    def seconds(self, name: str, default: float) -> float:
        try:
            value = float(self.text(name, str(default)))
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise _invalid(name, f"It must be a number of seconds greater than 0 (the default is {default:g}).")
        return value

    def base_url(self, name: str, *, fix: str) -> str:
        """An http or https URL without credentials, and without a trailing slash."""
        value = self.text(name, fix=fix)
        try:
            parts = urlsplit(value)
            is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
            _ = parts.port  # Raises ValueError if the port is not a number.
        except ValueError:
            is_valid = False
        if not is_valid or parts.query or parts.fragment:
            raise _invalid(
                name,
                "It must be a URL such as https://upstream.example/v1, without a user name, password, query or"
                " fragment.",
            )
        return value.rstrip("/")

    def database(self, name: str, default: str) -> dict[str, Any]:
        """Django's settings for an SQLite or PostgreSQL database."""
        url = self.text(name, default)
        invalid = _invalid(
            name,
            "It must be sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME. In USER and PASSWORD, write"
            " special characters percent-encoded, such as %40 for @ and %2F for /.",
        )
        if not url.startswith(("sqlite:///", "postgres://", "postgresql://")):
            raise invalid
        try:
            config: dict[str, Any] = environ.Env.db_url_config(url)
        except ValueError:
            raise invalid from None
        # Without a name, SQLite would give each thread a database in memory.
        if config["NAME"] in ("", ":memory:"):
            raise invalid
        return config


def _invalid(name: str, fix: str) -> ImproperlyConfigured:
    return _improper(f"The setting {name} is invalid. {fix}")


def _improper(problem: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(
        f"{problem.strip()} Set it in the environment or in the file .env. All settings are listed in .env.example and"
        " explained in docs/operations.md."
    )
