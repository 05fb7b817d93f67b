"""The browser of the tests: `python -m tests.chromium` finds an installed Chromium, or gets one."""

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

# A Chromium with the libraries it needs, as an npm package: no Node.js, no browser download site, no rights needed.
PACKAGE = "@sparticuz/chromium@147.0.0"
SHA512 = "4ZKeAQQa8up2mt675qSitztLdbQrlf8BKdC5naeap+5Mv1OV1OlJdPoU+EJC/p5sQUJUQmN4r+q5+EhaaOUHpQ=="

OWN = Path(__file__).resolve().parent.parent / "var" / "chromium"

ABSENT = (
    "The browser tests need Chromium. Install it (Debian: apt-get install chromium; Ubuntu: snap install chromium; or"
    " Google Chrome), or install npm and run `make test` again, which then gets one into var/chromium."
)


def find() -> Path | None:
    for found in map(shutil.which, NAMES):
        if found:
            return Path(found)
    own = OWN / "chromium"
    return own if own.exists() else None


def environment() -> dict[str, str]:
    """The environment to start the browser with: the one that we got brings its libraries."""
    path = os.pathsep.join(filter(None, [str(OWN / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]))
    return {**os.environ, "LD_LIBRARY_PATH": path} if find() == OWN / "chromium" else dict(os.environ)


def get() -> None:
    """Unpacks the npm package into var/chromium, or else installs the distribution's as root. Both may fail."""
    if shutil.which("npm") and platform.machine() == "x86_64":
        _unpack_package()
    if find() is None and shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-q"], check=False)
        subprocess.run(["apt-get", "install", "-qy", "--no-install-recommends", "chromium"], check=False)


def _unpack_package() -> None:
    with tempfile.TemporaryDirectory(dir=OWN.parent, prefix="chromium-") as folder:
        packed = subprocess.run(
            ["npm", "pack", "--silent", PACKAGE], cwd=folder, check=False, stdout=subprocess.DEVNULL
        )
        if packed.returncode:
            return
        [archive] = Path(folder).glob("*.tgz")
        if base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() != SHA512:
            raise SystemExit(f"The package {PACKAGE} is not the one that this project knows: its checksum differs.")
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
        unpacked.rename(OWN)


def main() -> None:
    if find() is None:
        print("No Chromium is installed: getting one.", flush=True)
        get()
    if (found := find()) is None:
        sys.exit(ABSENT)
    print(f"The browser: {found}")


if __name__ == "__main__":
    main()
