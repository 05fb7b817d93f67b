from pathlib import Path

from tests.security.conftest import said_in_production


def test_on_sqlite_what_was_committed_survives_a_power_cut(tmp_path: Path) -> None:
    code = (
        "from django.db import connection\n"
        "cursor = connection.cursor()\n"
        "print(*(cursor.execute(f'PRAGMA {name}').fetchone()[0] for name in ('journal_mode', 'synchronous')))"
    )
    told = said_in_production(code, DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3")
    assert told == ["wal 2"]  # 2 is FULL: each commit is on the disk before it is told.
