"""Processes of the tests end: with the block or session that started them, also if that is killed."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from clusters import wait_until
from processes import running

PIPE = subprocess.PIPE
# A daemon in a session of its own, as a service that a test has forgotten.
SESSION = """
import subprocess, sys
from processes import session
with session(seconds=0):
    daemon = "import subprocess; print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid, flush=True)"
    subprocess.run([sys.executable, "-c", daemon])
    sys.stdin.read()
"""
GROUP = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True)"


def runs(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    return bool(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("killed", [False, True])
def test_no_process_outlives_a_session(killed: bool) -> None:
    with running(
        sys.executable, "-c", SESSION, cwd=Path(__file__).parent, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True
    ) as session:
        assert session.stdout is not None
        pid = int(session.stdout.readline())
        assert runs(pid)
        if killed:
            session.kill()
        told = session.communicate()[1]
    wait_until(lambda: not runs(pid), "the watcher has ended it")
    if not killed:
        assert session.returncode == 1
        assert told.endswith(f"tests have left processes, which are killed now:\n{pid}: sleep 60\n")


def test_no_process_of_its_group_outlives_a_block() -> None:
    with running(sys.executable, "-c", GROUP, stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.wait()
        assert runs(pid)
    wait_until(lambda: not runs(pid), "the block has ended it")
