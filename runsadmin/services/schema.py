"""Whether the schema of the database matches the code: which migrations the database lacks, and which the code."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from runsadmin.errors import WrongSchema

type Migration = tuple[str, str]  # The label of its app, and its name.


@dataclass(frozen=True)
class Difference:
    """`unapplied`: the database lacks them, so it is older than the code. `unknown`: the code lacks them."""

    unapplied: tuple[Migration, ...] = ()
    unknown: tuple[Migration, ...] = ()

    @property
    def message(self) -> str:
        """What is wrong, and what to do. Empty if the schema matches the code."""
        if self.unknown:
            return (
                f"The database is newer than this code: it has {_names(self.unknown)}, which the code does not know. "
                "Install the version that the database was migrated with, or restore a backup of this version."
            )
        if self.unapplied:
            return (
                f"The database is older than this code: it lacks {_names(self.unapplied)}. Make a backup, then run "
                "`manage.py upgrade`."
            )
        return ""


def difference() -> Difference:
    """Compares the database with the code. Costs two small queries, unless migrations were applied since the last call.

    Raises django.db.Error.
    """
    return compare(MigrationRecorder(connection).applied_migrations())


def require_current() -> None:
    """Raises WrongSchema if the schema does not match the code."""
    if message := difference().message:
        raise WrongSchema(message)


def compare(applied: Iterable[Migration]) -> Difference:
    """Compares the migrations that were applied to a database with those of the code."""
    return _compare(frozenset(applied))


@lru_cache(maxsize=2)  # The graph of migrations takes long to build, and changes only with the code.
def _compare(applied: frozenset[Migration]) -> Difference:
    loader = MigrationLoader(None)
    # A squashed migration counts as applied if all of those that it replaces were.
    done = applied | {key for key, squashed in loader.replacements.items() if applied.issuperset(squashed.replaces)}
    known = set(loader.disk_migrations)
    last: dict[str, str] = {}
    for app, name in known:
        last[app] = max(name, last.get(app, ""))
    unapplied = sorted(key for key in loader.graph.nodes if key not in done)
    # Packages may drop old migrations, so an unknown one is newer only if it follows all that the code knows.
    unknown = sorted((app, name) for app, name in applied - known if app in last and name > last[app])
    return Difference(tuple(unapplied), tuple(unknown))


def _names(migrations: tuple[Migration, ...]) -> str:
    names = [".".join(migration) for migration in migrations[:3]]
    more = len(migrations) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
