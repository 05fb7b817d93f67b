import os
import subprocess
import sys
from pathlib import Path

from django.conf import settings

from tests.security.test_forgery import PRODUCTION


def test_on_sqlite_what_was_committed_survives_a_power_cut(tmp_path: Path) -> None:
    code = (
        "import django; django.setup()\n"
        "from django.db import connection\n"
        "cursor = connection.cursor()\n"
        "print(*(cursor.execute(f'PRAGMA {name}').fetchone()[0] for name in ('journal_mode', 'synchronous')))"
    )
    shipped = PRODUCTION | {"DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3"}
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=settings.BASE_DIR, env=os.environ | shipped,
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert told == "wal 2\n"  # 2 is FULL: each commit is on the disk before it is told.
