"""`make sabotage` takes guards away by their text: here is told at once when one of them reads otherwise."""

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
GUARDS = runpy.run_path(str(ROOT / "scripts" / "sabotage.py"))["GUARDS"]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_the_code_of_every_guard_stands_once_in_its_file(guard: Any) -> None:
    assert (ROOT / guard.file).read_text().count(guard.code) == 1
    assert all((ROOT / name).exists() for name in guard.tests + guard.races)
