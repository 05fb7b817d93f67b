"""`make sabotage`: removes one guard at a time, and shows which test fails.

A guard is a line of code that protects edits, with a replacement for it. The tree is copied, the guard is replaced in
the copy, and the tests that should fail are run there. If none of them fails, the command fails. If race tests are
named for the guard, one of them must fail as well.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLAIMS, STORING = "runsadmin/services/edits/claims.py", "runsadmin/services/edits/storing.py"
DECIDING, CLASSIFYING = "runsadmin/services/edits/deciding.py", "runsadmin/services/edits/classifying.py"
RUNS, METADATA, CONNECTIONS = "runsadmin/services/runs.py", "runsadmin/metadata.py", "runsadmin/services/connections.py"
RACES = ("tests/races/test_late.py", "tests/races/test_two_at_once.py")


@dataclass(frozen=True)
class Guard:
    name: str
    file: str
    code: str
    replacement: str
    tests: tuple[str, ...] = ("tests/services/test_edits.py",)
    races: tuple[str, ...] = ()


GUARDS = (
    Guard(
        "the claim's condition: only a pending edit whose turn it is",
        CLAIMS,
        "free = Edit.objects.filter(pk=edit.pk, status=EditStatus.PENDING).exclude(Exists(_preceding(edit)))",
        "free = Edit.objects.filter(pk=edit.pk)",
        races=RACES,
    ),
    Guard(
        "the claim's token: a process that lost its claim changes nothing",
        STORING,
        '{"id": claim.edit.pk, "claim_token": claim.token}',
        '{"id": claim.edit.pk}',
        ("tests/services/test_edit_recovery.py",),
        RACES,
    ),
    Guard(
        "no POST when the claim may expire before it is sent",
        STORING,
        "status_in=[EditStatus.SENDING.value], claimed_until=until",
        "status_in=[EditStatus.SENDING.value]",
        ("tests/services/test_edit_recovery.py",),
    ),
    Guard(
        "no POST when it would be sent too late: the last check of the time",
        "runsadmin/upstream/deadline_connection.py",
        "if now >= self.exchange.send_by:",
        "if False:",
        ("tests/upstream/test_send_by.py",),
    ),
    Guard(
        "the commit of `before` before the POST",
        STORING,
        '{"before": intent.before, "intended": intent.intended, "sent_at": now}',
        '{"claimed_until": now + dt.timedelta(minutes=1)}',
    ),
    Guard(
        "the fetch before the POST is fresh",
        DECIDING,
        "if intent.fetch_age <= MAX_FETCH_AGE:",
        "if intent.fetch_age <= MAX_FETCH_AGE * 1000:",
        ("tests/faults/test_fetch.py",),
    ),
    Guard(
        "the order of responses: a slow response never replaces a newer one",
        RUNS,
        'is_newer = timed.requested_at > row["received_at"]',
        "is_newer = True",
        ("tests/services/test_runs.py",),
    ),
    Guard(
        "the order of responses: overlapping responses are fetched again",
        RUNS,
        'elif timed.received_at >= row["requested_at"]:',
        "elif False:",
        ("tests/services/test_runs.py",),
    ),
    Guard(
        "the order of responses: a concurrent write is not overwritten",
        RUNS,
        "if len(update_rows(Run, rows)) < len(rows):",
        'if len(update_rows(Run, [(values, {"id": has["id"]}) for values, has in rows])) < 0:',
        ("tests/services/test_runs.py",),
    ),
    Guard(
        "the merge: keys that the patch does not touch keep their fetched values",
        METADATA,
        "return Merge(patch, patch.apply(theirs), conflicts)",
        "return Merge(patch, patch.apply(base), conflicts)",
        ("tests/test_metadata.py", "tests/services/test_edits.py"),
    ),
    Guard(
        "the merge: a key that someone else changed is a conflict",
        METADATA,
        "if theirs.get(key) not in (base.get(key), patch.set.get(key))",
        "if False",
        ("tests/test_metadata.py", "tests/services/test_edits.py"),
    ),
    Guard(
        "the limit of 16 pairs",
        METADATA,
        "if count > MAX_PAIRS and count > len(metadata):",
        "if False:",
        ("tests/test_metadata.py", "tests/services/test_edits.py"),
    ),
    Guard(
        "the limits of 64 and 512 characters",
        METADATA,
        "elif len(value) > MAX_VALUE_LENGTH:",
        "elif False:",
        ("tests/test_metadata.py",),
    ),
    Guard(
        "the permission, when an edit is recorded",
        "runsadmin/services/edits/recording.py",
        'permissions.require(values["actor"], permissions.Action.EDIT_METADATA)',
        "pass",
    ),
    Guard(
        "the permission, when an edit is claimed",
        CLAIMS,
        "return permissions.may(self.edit.actor, permissions.Action.EDIT_METADATA)",
        "return True",
    ),
    Guard(
        "the settling time before anything is sent again",
        CLASSIFYING,
        "if timed.requested_at < settled_at:",
        "if timed.requested_at < edit.sent_at:",
        ("tests/faults/test_post.py",),
    ),
    Guard(
        "an internal error counts as an attempt",
        CLAIMS,
        "attempts = claim.edit.attempts + 1\n    claim.row.update(attempts=attempts)",
        "attempts = claim.edit.attempts\n    claim.row.update(attempts=attempts)",
    ),
    Guard(
        "an edit with which three processes have died fails",
        CLAIMS,
        "deadly = expired.filter(deaths__gte=MAX_DEATHS)",
        "deadly = expired.filter(deaths__gte=1000)",
        ("tests/services/test_edit_recovery.py",),
    ),
    Guard(
        "a refused row ends only its own edit",
        STORING,
        "        if on_error is None or is_database_failure(error):",
        "        if True:",
        ("tests/isolation/test_edits.py",),
    ),
    Guard(
        "an internal error ends only its own thread of a sync",
        "runsadmin/services/syncs/reading.py",
        "        claimed.record_crash(error)",
        "        raise",
        ("tests/isolation/test_syncs.py",),
    ),
    Guard(
        "a task whose worker dies ends at the third attempt",
        "runsadmin/engine/attempts.py",
        "if attempts >= MAX_ATTEMPTS:",
        "if False:",
        ("tests/engine/test_heartbeat.py",),
    ),
    Guard(
        "a lost response is unknown, not pending",
        "runsadmin/upstream/status_codes.py",
        "        case NoResponse():\n            return errors.OutcomeUnknown",
        "        case NoResponse():\n            return errors.NotSent",
        ("tests/faults/test_post.py",),
    ),
    Guard(
        "one edit of a run in flight",
        "runsadmin/migrations/0001_version_0_1_0.py",
        "fields=('run',), name='edit_one_in_flight_per_run'",
        "fields=('id',), name='edit_one_in_flight_per_run'",
        ("tests/models",),
    ),
    Guard(
        "after a restore, no connection sends",
        CONNECTIONS,
        "if row.hold == Hold.NONE and row.restored_from is None:",
        "if row.hold == Hold.NONE:",
        ("tests/services/test_restoring.py",),
    ),
    Guard(
        "after a restore, the edits of the backup wait",
        CLAIMS,
        "_NOT_RESTORED = Q(restored_from=None) | Q(status__in=IN_FLIGHT)",
        "_NOT_RESTORED = Q()",
        ("tests/services/test_restoring.py",),
    ),
    Guard(
        "after a restore, a newer value is a conflict",
        "runsadmin/services/backups/holding.py",
        "Edit.objects.filter(pk=edit).update(base=base)",
        "pass",
        ("tests/services/test_restoring.py",),
    ),
    Guard(
        "the hold: nothing is sent on a held connection",
        CONNECTIONS,
        'return f"The connection {alias} is held. {why_held(row)}".rstrip()',
        'return ""',
    ),
    Guard(
        "the hold: refused credentials reject nothing",
        "runsadmin/upstream/status_codes.py",
        "        case 401 | 407:  # 407: the credentials of a proxy.\n            return errors.ConnectionHeld",
        "        case 401 | 407:\n            return errors.Rejected",
        ("tests/faults/test_fetch.py",),
    ),
    Guard(
        "no edit of a run that was purged meanwhile",
        "runsadmin/services/edits/recording.py",
        "if not lock_runs([run.pk]):",
        "if False:",
        ("tests/services/test_purge_races.py",),
    ),
    Guard(
        "an edit without its values is not applied",
        DECIDING,
        "if edit.is_purged:",
        "if False:",
        ("tests/services/test_purge_races.py",),
    ),
)


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        return check()
    all_tests = dict.fromkeys(test for guard in GUARDS for test in (*guard.tests, *guard.races))
    with copy_of_the_tree() as copy:
        baseline = run(copy, *all_tests)
        if baseline.returncode:
            raise SystemExit(f"The tests fail even with all guards in place:\n{baseline.stdout}{baseline.stderr}")
    unnoticed = 0
    print("| guard | noticed by |\n| --- | --- |", flush=True)
    for guard in GUARDS:
        failing = failing_without(guard)
        unnoticed += not all(failing)
        print(f"| {guard.name} | {', '.join(test or '**nothing**' for test in failing)} |", flush=True)
    print(f"\n{len(GUARDS) - unnoticed} of {len(GUARDS)} guards are tested.")
    return 1 if unnoticed else 0


def check() -> int:
    """Checks, without running tests, that each guard is in its file exactly once and in docs/reliability.md."""
    table = (ROOT / "docs" / "reliability.md").read_text().partition("## Guards")[2]
    documented = re.findall(r"^\| (?!guard |---)(.+?) \|", table, re.MULTILINE)
    errors = [f"{guard.name}: not exactly once in {guard.file}" for guard in GUARDS if count(guard) != 1]
    errors += [f"{name}: no such file" for guard in GUARDS for name in guard.tests + guard.races if not exists(name)]
    errors += [f"{name}: not in docs/reliability.md" for guard in GUARDS if (name := guard.name) not in documented]
    errors += [f"{name}: only in docs/reliability.md" for name in documented if name not in {g.name for g in GUARDS}]
    for file, test in re.findall(r"`(tests/.+?\.py)::(\w+)", table):
        if not exists(file) or f"def {test}(" not in (ROOT / file).read_text():
            errors.append(f"docs/reliability.md: there is no {file}::{test}")
    print(*errors, sep="\n", end="\n" if errors else "")
    return 1 if errors else 0


def count(guard: Guard) -> int:
    return (ROOT / guard.file).read_text().count(guard.code) if exists(guard.file) else 0


def exists(name: str) -> bool:
    return (ROOT / name).exists()


def failing_without(guard: Guard) -> list[str]:
    """The test that fails without the guard and, if race tests are named, the one that fails. Empty strings if none."""
    with copy_of_the_tree() as copy:
        file = copy / guard.file
        text = file.read_text()
        if text.count(guard.code) != 1:
            raise SystemExit(f"The guard {guard.name!r} is no longer in {guard.file}. Update scripts/sabotage.py.")
        file.write_text(text.replace(guard.code, guard.replacement))
        return [first_to_fail(copy, guard, tests) for tests in (guard.tests, guard.races) if tests]


def first_to_fail(copy: Path, guard: Guard, tests: tuple[str, ...]) -> str:
    tested = run(copy, *tests)
    if not tested.returncode:
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", tested.stdout, re.MULTILINE)
    if not failed:
        raise SystemExit(f"Without {guard.name!r}, the tests could not run:\n{tested.stdout}{tested.stderr}")
    return f"`{failed[1]}`"


@contextmanager
def copy_of_the_tree() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="runsadmin-sabotage-") as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv", ".git", "var", ".*_cache", "__pycache__"))
        (copy / "var").mkdir()
        yield copy


def run(copy: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *tests],
        cwd=copy,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


if __name__ == "__main__":
    sys.exit(main())
