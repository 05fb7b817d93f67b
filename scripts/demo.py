"""Fills the dashboard of `make run` from the sandbox and prints how to sign in: `python scripts/demo.py PORT`."""

import datetime as dt
import http.client
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import django
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
sys.path.insert(0, str(Path(__file__).parents[1]))
django.setup()

from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone
from knox.crypto import hash_token
from knox.models import AuthToken
from knox.settings import CONSTANTS

from runsadmin.errors import UpstreamError
from runsadmin.ids import in_path
from runsadmin.models import Run, RunStatus
from runsadmin.services import threads

TIMEOUT = 60  # Seconds.
TOKEN_LIFETIME = dt.timedelta(days=365)

READY = """
runsadmin is ready: {url}
  Sign in as admin, with the password {password}
  The mirror has {runs} runs. This command changes one of them, in the sandbox and in the mirror:

{curl}

  Ctrl-C stops everything; your changes are kept.
"""


def main(port: int) -> None:
    """Waits for the web server and the sandbox, creates a user and a token, then tracks and syncs all threads."""
    admin = create_admin()
    store_token(admin, settings.RUNSADMIN_DEMO_TOKEN)
    mirror_threads(admin)
    wait(lambda: request_login_page(port), what="The web server")
    url, password = f"http://127.0.0.1:{port}/", settings.RUNSADMIN_DEMO_PASSWORD
    curl = curl_command(url, settings.RUNSADMIN_DEMO_TOKEN)
    print(READY.format(url=url, password=password, runs=Run.objects.count(), curl=curl), flush=True)
    signal.pause()


def mirror_threads(admin: User) -> None:
    """Tracks and syncs all threads of the sandbox. Threads that no longer exist are only reported."""
    thread_ids = wait(lambda: threads.listed_upstream(connection="default"), what="The sandbox")
    threads.track(connection="default", thread_ids=thread_ids, actor=admin)
    try:
        call_command("sync_runs", actor=admin.get_username())
    except CommandError as error:
        print(error, flush=True)


def create_admin() -> User:
    if not (settings.RUNSADMIN_DEMO_PASSWORD and settings.RUNSADMIN_DEMO_TOKEN):
        sys.exit(
            "RUNSADMIN_DEMO_PASSWORD and RUNSADMIN_DEMO_TOKEN must both be set. `make run` writes them into a new .env"
            " file; add them to yours."
        )
    admin, _ = User.objects.get_or_create(username="admin", defaults={"is_staff": True, "is_superuser": True})
    if not admin.check_password(settings.RUNSADMIN_DEMO_PASSWORD):
        admin.set_password(settings.RUNSADMIN_DEMO_PASSWORD)
        admin.save()
    return admin


def store_token(user: User, token: str) -> None:
    """Stores the token from .env as knox would. (knox itself creates only random tokens.)"""
    key, expiry = token[: CONSTANTS.TOKEN_KEY_LENGTH], timezone.now() + TOKEN_LIFETIME
    AuthToken(digest=hash_token(token), token_key=key, user=user, created=timezone.now(), expiry=expiry).save()


def request_login_page(port: int) -> None:
    web = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    web.request("GET", "/admin/login/")
    web.getresponse()
    web.close()


def wait[T](call: Callable[[], T], *, what: str) -> T:
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            return call()
        except (OSError, UpstreamError) as error:
            if time.monotonic() > deadline:
                sys.exit(f"{what} does not respond: {error}")
            time.sleep(0.2)


def curl_command(url: str, token: str) -> str:
    runs = Run.objects.filter(connection="default", status=RunStatus.COMPLETED, missing_since=None)
    run = runs.order_by("-created_at").first()
    assert run is not None
    body = json.dumps({"metadata": {"reviewed_by": "me"}, "reason": "Trying it out"})
    return shlex.join(
        [
            *("curl", "-X", "PATCH", f"{url}api/v1/runs/{in_path(run.upstream_id)}/"),
            *("-H", f"Authorization: Token {token}", "-H", "Content-Type: application/json", "-d", body),
        ]
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
