"""`make sabotage` takes guards away by their text: here is told at once when one of them reads otherwise."""

import re
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


def test_the_guards_in_the_documentation_are_these_and_the_tests_that_notice_exist() -> None:
    table = (ROOT / "docs" / "reliability.md").read_text().partition("## Guards")[2]
    assert re.findall(r"^\| (?!guard |---)(.+?) \|", table, re.MULTILINE) == [guard.name for guard in GUARDS]
    noticing = re.findall(r"`(tests/.+?\.py)::(\w+)", table)
    assert len(noticing) >= len(GUARDS)
    for file, test in noticing:
        assert f"def {test}(" in (ROOT / file).read_text()
