"""Files: atomic replacement, JSON and digests."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import UserError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file that replaces another atomically, unless an error occurs.

    Args:
        path: File to create or replace; its folder must exist.

    Yields:
        Path of the empty temporary file, in the same folder.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # otherwise a power failure could leave an empty file under the new name
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)  # can only be read by setting it
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically, as UTF-8 with Unix line ends.

    Args:
        path: File to write; its folder is created if missing.
        text: Content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


@contextlib.contextmanager
def copies(*paths: Path) -> Iterator[Path]:
    """A temporary folder with copies of files and folders.

    DVC's outputs may be links into its cache, and read-only (`cache.type`); the copies are neither.

    Args:
        *paths: Files or folders, relative to the working directory.

    Yields:
        The folder, in which the copies have the same relative paths.
    """
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            target = Path(folder, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, target, copy_function=shutil.copyfile)
            else:
                shutil.copyfile(path, target)
        yield Path(folder)


def replace_link(path: Path) -> None:
    """Replaces a link to a file by a copy of the file; other files stay.

    Args:
        path: The link.
    """
    if path.is_symlink():
        with replacing(path) as temporary:
            shutil.copyfile(path, temporary)


def walk(root: Path) -> Iterator[str]:
    """Yields the files below a folder, in order, folder by folder.

    Links are followed; what has a hidden name is left out.

    Args:
        root: The folder.

    Yields:
        The path of a file, relative to the folder. A file may be a broken link, or no regular file.

    Raises:
        UserError: If a link leads back to a folder that contains it.
    """
    yield from _walk(str(root), "", (os.path.realpath(root),))


def _walk(root: str, below: str, above: tuple[str, ...]) -> Iterator[str]:
    for name in sorted(os.listdir(os.path.join(root, below))):
        path = os.path.join(root, below, name)
        if name.startswith("."):
            continue
        if not os.path.isdir(path):
            yield below + name
            continue
        real = os.path.realpath(path) if os.path.islink(path) else os.path.join(above[-1], name)
        if real in above:
            raise UserError(f"{file_name(path)}: the link leads back to a folder that contains it: remove the link")
        yield from _walk(root, f"{below}{name}/", (*above, real))


def file_name(path: Path | str) -> str:
    r"""A path as text; bytes that are not UTF-8 become `\xff`.

    Args:
        path: The path.
    """
    return os.fsencode(path).decode(errors="backslashreplace")


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def digest(path: Path, algorithm: str = "sha256") -> str:
    """The hexadecimal digest of a file, read in blocks.

    Args:
        path: File to read.
        algorithm: Name of a hashlib algorithm: `sha256`, or `md5` as in dvc.lock.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
