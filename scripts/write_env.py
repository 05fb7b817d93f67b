"""Writes .env for `make run`: secrets for this machine, readable only by their owner."""

import os
import secrets

LINES = f"""\
# Written by the first `make run`. .env.example lists all settings.
SECRET_KEY={secrets.token_urlsafe(50)}
# The bundled sandbox, which `make run` starts if the key begins with "sandbox-".
RUNSADMIN_UPSTREAM_URL=http://127.0.0.1:{os.environ.get("SANDBOX_PORT", "8001")}/v1
RUNSADMIN_UPSTREAM_API_KEY=sandbox-{secrets.token_urlsafe(24)}
RUNSADMIN_DEMO_PASSWORD={secrets.token_urlsafe(12)}
RUNSADMIN_DEMO_TOKEN={secrets.token_hex(32)}
"""

if __name__ == "__main__":
    with os.fdopen(os.open(".env", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(LINES)
