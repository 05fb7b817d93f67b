"""Files that are complete or absent, and that only their owner can read."""

import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# The permissions of all but the owner, and those of all but the owner and the group.
_GROUP_AND_OTHERS, _OTHERS = 0o077, 0o007
_PART = ".part"


def protect(*paths: Path, group_may_read: bool = False) -> None:
    """Makes existing files accessible by their owner only, if this process may do so."""
    excluded = _OTHERS if group_may_read else _GROUP_AND_OTHERS
    for path in paths:
        with suppress(OSError):  # The file does not exist, or belongs to another account.
            mode = path.stat().st_mode
            if stat.S_ISREG(mode) and mode & excluded:  # Not a device such as /dev/null.
                path.chmod(stat.S_IMODE(mode) & ~excluded)


def create(path: Path, mode: int = 0o600) -> None:
    """Creates an empty file, which only its owner can read by default. Raises FileExistsError."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))


@contextmanager
def written(path: Path, *, overwrite: bool = False, mode: int = 0o600) -> Iterator[Path]:
    """Yields the path of a new empty file in the same folder, which gets the name `path` when the block ends.

    If the block fails, nothing is left. Raises FileExistsError if the file exists, unless it may be overwritten. Raises
    OSError for a device, a pipe or a folder. Overwrites the target of a symbolic link, not the link.
    """
    path = path.resolve()
    if not overwrite and path.exists():
        raise FileExistsError(path)
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "This is not a regular file", str(path))
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PART}")
    try:
        create(part, mode)
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "The folder does not exist", str(path.parent)) from None
    except OSError as error:  # The name of the part means nothing to the user.
        error.filename = str(path)
        raise
    try:
        yield part
        sync(part)
        if overwrite:
            part.replace(path)
        else:
            add_name(part, path)
        with suppress(OSError):  # Some network file systems cannot do this.
            sync(path.parent)
    finally:
        _delete(path.parent.glob(f"{part.name}*"))


def delete_unfinished(path: Path) -> None:
    """Deletes what killed processes have left of this file. Only for a file that no other process writes."""
    _delete(path.parent.glob(f".{path.name}.*{_PART}*"))


def _delete(paths: Iterable[Path]) -> None:
    for path in list(paths):
        path.unlink(missing_ok=True)


def add_name(old: Path, new: Path) -> None:
    """Gives a file another name, or renames it if the file system has no hard links. Raises FileExistsError."""
    try:
        new.hardlink_to(old)  # Unlike renaming, this never replaces another file.
    except FileExistsError:
        raise
    except OSError:
        if new.exists():
            raise FileExistsError(new) from None
        old.rename(new)


def sync(path: Path) -> None:
    """Waits until the disk has the file or folder."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
