"""Chromium for the browser tests: `python -m tests.chromium` finds an installed one, or downloads one."""

import base64
import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import brotli

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# An npm package of Chromium and its libraries. Chromium runs without Node.js and root access.
PACKAGE = "@sparticuz/chromium@147.0.0"
SHA512 = "4ZKeAQQa8up2mt675qSitztLdbQrlf8BKdC5naeap+5Mv1OV1OlJdPoU+EJC/p5sQUJUQmN4r+q5+EhaaOUHpQ=="

DOWNLOADED = Path(__file__).resolve().parent.parent / "var" / "chromium"

NOT_INSTALLED = (
    "The browser tests need Chromium. Install it (Debian: apt-get install chromium; Ubuntu: snap install chromium; or"
    " Google Chrome), or install npm and run `make test` again, which then downloads one into var/chromium."
)


def find() -> Path | None:
    for found in map(shutil.which, NAMES):
        if found:
            return Path(found)
    downloaded = DOWNLOADED / "chromium"
    return downloaded if downloaded.exists() else None


def environment() -> dict[str, str]:
    """The environment of the browser process. The downloaded Chromium uses the libraries that come with it."""
    path = os.pathsep.join(filter(None, [str(DOWNLOADED / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]))
    return {**os.environ, "LD_LIBRARY_PATH": path} if find() == DOWNLOADED / "chromium" else dict(os.environ)


def download() -> None:
    """Unpacks the npm package into var/chromium or, as root, installs the distribution's package. Both can fail."""
    if shutil.which("npm") and platform.machine() == "x86_64":
        _unpack_package()
    if find() is None and shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-q"], check=False)
        subprocess.run(["apt-get", "install", "-qy", "--no-install-recommends", "chromium"], check=False)


def _unpack_package() -> None:
    with tempfile.TemporaryDirectory(dir=DOWNLOADED.parent, prefix="chromium-") as folder:
        command = ["npm", "pack", "--silent", PACKAGE]
        if subprocess.run(command, cwd=folder, check=False, stdout=subprocess.DEVNULL).returncode:
            return
        [archive] = Path(folder).glob("*.tgz")
        if base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() != SHA512:
            raise SystemExit(f"The checksum of {PACKAGE} is not the expected one.")
        unpacked = Path(folder) / "unpacked"
        with tarfile.open(archive) as package:
            for member in package.getmembers():
                if Path(member.name).match("bin/*.tar.br") and (file := package.extractfile(member)):
                    with tarfile.open(fileobj=io.BytesIO(brotli.decompress(file.read()))) as libraries:
                        libraries.extractall(unpacked, filter="data")
                elif Path(member.name).match("bin/chromium.br") and (file := package.extractfile(member)):
                    unpacked.mkdir(exist_ok=True)
                    (unpacked / "chromium").write_bytes(brotli.decompress(file.read()))
        (unpacked / "chromium").chmod(0o755)
        unpacked.rename(DOWNLOADED)


def main() -> None:
    if find() is None:
        print("Chromium is not installed: downloading it.", flush=True)
        download()
    if (found := find()) is None:
        sys.exit(NOT_INSTALLED)
    print(f"Browser: {found}")


if __name__ == "__main__":
    main()
