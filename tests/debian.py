"""Debian's packages, for programs that tests need."""

import contextlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

SOURCES = Path("/etc/apt/sources.list.d")
BACKPORTS = "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: {}\nComponents: main\nSigned-By: {}\n"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"


def apt_install(*packages: str, backports: bool = False) -> None:
    """Installs Debian's packages where this is root; skips the test where that is not possible.

    Args:
        *packages: Their names.
        backports: Whether to take them from the release after this machine's, as built for this one.
    """
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip(f"is not installed: apt-get install --no-install-recommends {' '.join(packages)}")
    # Nobody answers debconf, and the daemons that packages would start have no configuration.
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    with (
        FileLock(Path(tempfile.gettempdir()) / "template-tests-apt.lock"),  # apt serves one process at a time
        contextlib.ExitStack() as sources,
    ):
        options = sources.enter_context(_backports()) if backports else []
        subprocess.run(["apt-get", *options, "update", "--quiet"], env=env, capture_output=True, timeout=300)
        command = ["apt-get", *options, "install", "--yes", "--quiet", "--no-install-recommends", *packages]
        installed = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    if installed.returncode != 0:
        pytest.skip(f"{' '.join(packages)}: cannot be installed: {installed.stderr[-300:]}")


@contextlib.contextmanager
def _backports() -> Iterator[list[str]]:
    """Options of apt-get that add Debian's backports to the sources of this machine, for one command."""
    suite = f"{platform.freedesktop_os_release()['VERSION_CODENAME']}-backports"
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(SOURCES, folder, dirs_exist_ok=True)
        (Path(folder) / "backports.sources").write_text(BACKPORTS.format(suite, KEYS))
        yield ["-o", f"Dir::Etc::sourceparts={folder}", "-o", f"APT::Default-Release={suite}"]
