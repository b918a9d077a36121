"""Shared libraries of the image, without debugging symbols."""

import shutil
import subprocess
import sys
from pathlib import Path

import uvloop
from my_experiment.harness.packaging import symbols


def test_a_stripped_library_is_small_and_works(tmp_path: Path) -> None:
    shutil.copytree(Path(uvloop.__file__).parent, tmp_path / "uvloop")
    (library,) = (tmp_path / "uvloop").glob("loop.*.so")
    before = library.stat().st_size
    symbols.main(tmp_path)
    assert library.stat().st_size < before / 2
    code = "import asyncio, uvloop; print(uvloop.__file__); uvloop.run(asyncio.sleep(0))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and str(tmp_path) in done.stdout, done.stderr


def test_what_is_no_library_stays_as_it_is() -> None:
    assert symbols.strip(b"INPUT(libc.so.6)") == b"INPUT(libc.so.6)"
    assert symbols.strip(b"\x7fELF\x01\x01" + bytes(99)) == b"\x7fELF\x01\x01" + bytes(99)
