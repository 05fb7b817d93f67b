"""Conventions that no linter checks: the length of names, modules and template lines, and the glossary's words."""

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("bench", "loadtests", "project", "runsadmin", "sandbox", "scripts", "tests")
MAX_LINES = 400
MAX_TEMPLATE_LINE = 120  # The same as for Python.
MAX_NAME, MAX_MEAN_NAME = 60, 36

# Words that docs/glossary.md replaces with better ones.
REPLACED = frozenset(
    [
        "anew",
        "books",
        "brakes",
        "brought",
        "bury",
        "complain",
        "door",
        "doors",
        "finding",
        "findings",
        "gap",
        "give_back",
        "give_up",
        "go_on",
        "hand",
        "hands",
        "heart",
        "judge",
        "look",
        "looked",
        "looks",
        "overtaken",
        "seam",
        "settled_in",
        "sighting",
        "somebody",
        "take_up",
        "taken_up",
        "tell",
        "telling",
        "tells",
        "told",
        "way_back",
        "whoever",
    ]
)


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (path for path in (ROOT / package).rglob("*.py") if "migrations" not in path.parts)


def defined_names(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        match node:
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
                | ast.arg(arg=name)
            ):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


def words(name: str) -> str:
    """`_take_up` and `TakeUp` as `take_up`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_")


def test_modules_are_short() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules()}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


def test_template_lines_are_short() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in (ROOT / "templates").rglob("*.html")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > MAX_TEMPLATE_LINE
    ]
    assert sorted(long) == []


def test_test_names_are_short() -> None:
    names = [name for path in modules() for name in defined_names(path) if re.match(r"test_\w+$", name)]
    assert [name for name in names if len(name) > MAX_NAME] == []
    assert mean(map(len, names)) <= MAX_MEAN_NAME


def test_no_test_is_skipped() -> None:
    """Tests of one database have the marker `only_on`. A missing program is an error that says how to install it."""
    skips = re.compile(r"\b(pytest|mark)\.(skip|xfail|importorskip)")
    others = [path for path in modules() if path != Path(__file__).resolve()]
    assert [str(path) for path in others if skips.search(path.read_text())] == []


def test_names_use_the_glossary() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in modules()
        for name in defined_names(path)
        for word in REPLACED
        if f"_{word}_" in f"_{words(name)}_"
    }
    assert sorted(found) == []


def test_documented_tests_exist() -> None:
    """docs/security.md names the test for each threat: `tests/x.py::test_a`, `::test_b`."""
    missing, path = [], ""
    text = (ROOT / "docs" / "security.md").read_text()
    for found in re.findall(r"`(tests/[\w/]+\.py(?:::test_\w+)?|::test_\w+)`", text):
        named, _, test = found.partition("::")
        path = named or path
        if not (ROOT / path).is_file() or (test and f"def {test}(" not in (ROOT / path).read_text()):
            missing.append(found)
    assert path
    assert missing == []


def test_migrations_are_never_edited() -> None:
    """A database may have applied them already. `sha256sum FILE >> SHA256SUMS` records a new migration."""
    folder = ROOT / "runsadmin" / "migrations"
    files = sorted(folder.glob("[0_]*.py"))
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.name != "__init__.py"}
    lines = (line.split() for line in (folder / "SHA256SUMS").read_text().splitlines())
    recorded = {name: digest for digest, name in lines}
    assert sums == recorded, "Add a migration instead of editing one, and record it in runsadmin/migrations/SHA256SUMS."
