"""nginx, Caddy and HAProxy with the documented configurations: `python -m tests.proxies` finds or installs them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.waiting import until

DOCUMENTED = Path(__file__).resolve().parent.parent / "docs" / "proxies"
PACKAGES = {"nginx": "nginx-light", "caddy": "caddy", "haproxy": "haproxy"}
# Debian installs servers where only root looks for programs.
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"

NOT_INSTALLED = (
    "The tests of proxies need nginx, Caddy and HAProxy. Install them (Debian and Ubuntu: apt-get install"
    f" {' '.join(PACKAGES.values())})."
)


def program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    if not found:
        raise FileNotFoundError(f"There is no {name}. {NOT_INSTALLED}")
    return found


@contextmanager
def running(name: str, folder: Path, *, port: int, web_port: int) -> Iterator[None]:
    """Runs a proxy with its documented configuration, but with these ports and without TLS. Yields when it responds."""
    folder.mkdir()
    command = {"nginx": _nginx, "caddy": _caddy, "haproxy": _haproxy}[name](folder, port, web_port)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=os.environ | {"HOME": str(folder)}, stdout=log, stderr=log)
    try:
        until(lambda: process.poll() is not None or _responds(port), seconds=20)
        if process.poll() is not None:
            raise RuntimeError((folder / "log").read_text())
        yield
    finally:
        process.terminate()
        process.wait()


def _responds(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/livez", timeout=5).ok
    except requests.ConnectionError:
        return False


def _nginx(folder: Path, port: int, web_port: int) -> list[str]:
    lines = _documented("nginx.conf", web_port, {"listen 443 ssl;": f"listen 127.0.0.1:{port};"}).splitlines()
    (folder / "site.conf").write_text("\n".join(line for line in lines if "ssl_" not in line))
    paths = "".join(f"{kind}_temp_path {folder};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; pid {folder}/pid; error_log stderr; events {{}}"
        f" http {{ access_log off; {paths} include {folder}/site.conf; }}"
    )
    return [program("nginx"), "-e", "stderr", "-p", str(folder), "-c", "nginx.conf"]


def _caddy(folder: Path, port: int, web_port: int) -> list[str]:
    site = _documented("Caddyfile", web_port, {"runs.example.org {": f"http://127.0.0.1:{port} {{"})
    (folder / "Caddyfile").write_text("{\n\tadmin off\n}\n" + site)
    return [program("caddy"), "run", "--config", "Caddyfile"]


def _haproxy(folder: Path, port: int, web_port: int) -> list[str]:
    bind = "bind :443 ssl crt /etc/ssl/private/runs.example.org.pem"
    (folder / "haproxy.cfg").write_text(_documented("haproxy.cfg", web_port, {bind: f"bind 127.0.0.1:{port}"}))
    return [program("haproxy"), "-db", "-f", "haproxy.cfg"]


def _documented(name: str, web_port: int, replaced: dict[str, str]) -> str:
    text = (DOCUMENTED / name).read_text()
    for old, new in ({"127.0.0.1:8000": f"127.0.0.1:{web_port}"} | replaced).items():
        if text.count(old) != 1:
            raise ValueError(f"{old!r} is not exactly once in docs/proxies/{name}.")
        text = text.replace(old, new)
    return text


def main() -> None:
    missing = [package for name, package in PACKAGES.items() if not shutil.which(name, path=PATH)]
    if missing and shutil.which("apt-get") and os.geteuid() == 0:
        # Packages do not start their servers in this run level.
        environment = os.environ | {"RUNLEVEL": "1", "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-q"], check=False)
        install = ["apt-get", "install", "-qy", "--no-install-recommends", *missing]
        subprocess.run(install, env=environment, check=False)
    try:
        print("Proxies:", *map(program, PACKAGES))
    except FileNotFoundError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
