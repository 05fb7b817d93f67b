"""Runs commands as a shell does, and returns their output, errors and exit code."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from django.core.management import CommandError, call_command


@dataclass(frozen=True)
class Output:
    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[Any]:
        """The JSON objects that --json printed."""
        return [orjson.loads(line) for line in self.out.splitlines()]


type Manage = Callable[..., Output]


@pytest.fixture
def manage() -> Manage:
    """Runs `manage.py …` in this process."""

    def manage(*arguments: str) -> Output:
        out, err = io.StringIO(), io.StringIO()
        code = 0
        try:
            call_command(*arguments, stdout=out, stderr=err)
        except CommandError as error:  # manage.py prints the error and exits with its code.
            err.write(f"{error}\n")
            code = error.returncode
        return Output(code, out.getvalue(), err.getvalue())

    return manage
