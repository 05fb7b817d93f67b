"""The rate limit of an account: a burst of up to a minute's worth of requests, then a steady rate.

All processes of a machine share the limit through a separate SQLite file, so that a request that only reads data
neither writes to the database nor waits for a process that does.
"""

import logging
import sqlite3
import threading
import time
from contextlib import suppress
from pathlib import Path

from django.contrib.auth.models import User

from runsadmin import conf, private_files

logger = logging.getLogger(__name__)

# In seconds. Other processes lock the file only for microseconds, unless the machine is very busy.
_TIMEOUT = 1.0
# `used` is how many requests counted against the limit at the time `at`.
_TABLE = "CREATE TABLE IF NOT EXISTS rate (account INTEGER PRIMARY KEY, used REAL NOT NULL, at REAL NOT NULL)"
_MEMORY = ":memory:"

_files: dict[str, sqlite3.Connection] = {}
_lock = threading.Lock()


def use_one(user: User) -> float:
    """Uses one of the account's requests and returns 0, or returns how many seconds to wait if none is left."""
    limit, path = conf.api_requests_per_minute(), conf.api_rate_file()
    if not limit:
        return 0
    with _lock:
        try:
            return _use_one(_opened(path), user.pk, limit)
        except sqlite3.Error as error:
            logger.warning("This process counts its REST requests separately, because of %s: %s", path, error)
            return _use_one(_opened(_MEMORY), user.pk, limit)


def _use_one(file: sqlite3.Connection, account: int, limit: int) -> float:
    per_second = limit / 60
    with file:  # A transaction.
        file.execute("BEGIN IMMEDIATE")
        now = time.time()
        row = file.execute("SELECT used, at FROM rate WHERE account = ?", [account]).fetchone()
        used, at = row or (0.0, now)
        # The clock may have been set back, and the limit may have been lowered.
        used = min(max(0.0, used - max(0.0, now - at) * per_second), limit)
        wait = max(0.0, (used + 1 - limit) / per_second)
        file.execute("INSERT OR REPLACE INTO rate VALUES (?, ?, ?)", [account, used if wait else used + 1, now])
    return wait


def _opened(path: str) -> sqlite3.Connection:
    if path not in _files:
        _files[path] = _open(path)
    return _files[path]


def _open(path: str) -> sqlite3.Connection:
    if path != _MEMORY:
        with suppress(OSError):  # The file exists, or cannot be created, which opening it reports.
            private_files.create(Path(path))
        private_files.protect(Path(path))
    file = sqlite3.connect(path, timeout=_TIMEOUT, isolation_level=None, check_same_thread=False)
    # A crash of the machine can undo the last commits, but not damage the file.
    file.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {_TABLE}")
    return file
