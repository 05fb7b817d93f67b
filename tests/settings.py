"""The project's settings for the tests. The developer's .env and environment are ignored, except for DATABASE_URL."""

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
    "RUNSADMIN_API_REQUESTS_PER_MINUTE": "0",  # The rate limit adds queries, and has its own tests.
}

from project.settings import *  # noqa: E402, F403
from project.settings import BASE_DIR, DATABASE  # noqa: E402

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# Static files are served from the apps, without collecting them.
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_AUTOREFRESH = True
WHITENOISE_USE_FINDERS = True

if DATABASE["ENGINE"] == "django.db.backends.sqlite3":
    # A file, because the threads and processes of a test share its data. Each pytest process has its own file.
    # Test data need not survive a crash.
    DATABASE["OPTIONS"]["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF"
    DATABASE["TEST"] = {"NAME": str(BASE_DIR / "var" / f"test-{os.getpid()}.sqlite3")}
