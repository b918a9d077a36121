"""Debian's packages, for programs that tests need."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock


def apt_install(*packages: str) -> None:
    """Installs Debian's packages where this is root; skips the test where that is not possible."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip(f"is not installed: apt-get install --no-install-recommends {' '.join(packages)}")
    # Nobody answers debconf, and the daemons that packages would start have no configuration.
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages]
    with FileLock(Path(tempfile.gettempdir()) / "template-tests-apt.lock"):  # apt serves one process at a time
        subprocess.run(["apt-get", "update", "--quiet"], env=env, check=False, capture_output=True, timeout=300)
        installed = subprocess.run(command, env=env, check=False, capture_output=True, text=True, timeout=600)
    if installed.returncode != 0:
        pytest.skip(f"{' '.join(packages)}: cannot be installed: {installed.stderr[-300:]}")
