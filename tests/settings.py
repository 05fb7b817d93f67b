"""The project's settings as the tests need them. Of the developer's .env and environment only DATABASE_URL counts."""

import os

for name in list(os.environ):
    if name.startswith("RUNSADMIN_"):
        del os.environ[name]
os.environ |= {
    "ENV_FILE": os.devnull,
    "SECRET_KEY": "only-for-tests-" + "x" * 50,
    "DEBUG": "off",
    "HTTPS": "off",
    "ALLOWED_HOSTS": "localhost,127.0.0.1,testserver",
    "RUNSADMIN_UPSTREAM_URL": "http://127.0.0.1:9/v1",  # Nothing listens there: tests that need an upstream start one.
    "RUNSADMIN_UPSTREAM_API_KEY": "key-of-the-tests",
    "RUNSADMIN_API_REQUESTS_PER_MINUTE": "0",  # Counting takes queries, and has tests of its own.
}

from project.settings import *  # noqa: E402, F403
from project.settings import BASE_DIR, DATABASE  # noqa: E402

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# Static files straight from the apps: nothing has been collected.
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_AUTOREFRESH = True
WHITENOISE_USE_FINDERS = True

if DATABASE["ENGINE"] == "django.db.backends.sqlite3":
    # A file, since the threads and processes of a test have to see the same data; each process of pytest has its own.
    DATABASE["OPTIONS"]["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF"  # No power cuts here.
    DATABASE["TEST"] = {"NAME": str(BASE_DIR / "var" / f"test-{os.getpid()}.sqlite3")}
