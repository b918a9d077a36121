"""Clusters on this machine: SLURM with one node, Ray with two. Tests import the fixtures.

Their files lie in a temporary folder, they listen on free ports, and are stopped by process id.
"""

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import free_port
from debian import apt_install
from processes import running

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

CPUS = 4  # of the SLURM node, whatever this machine has
MEMORY_MB = 4000

# https://slurm.schedmd.com/slurm.conf.html. No cgroups and no systemd, as in a container; no accounting database.
SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
NodeName=node0 NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes=node0 Default=YES MaxTime=INFINITE State=UP
"""


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Waits until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)  # between two looks at the condition


@pytest.fixture(scope="session")
def slurm() -> Iterator[dict[str, str]]:
    """SLURM with one node of `CPUS` processors, partition `main`; yields the environment of its commands."""
    if not shutil.which("slurmctld"):
        apt_install("slurm-wlm")
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # a socket's path has 107 characters at most
    folder.chmod(0o755)  # munged refuses a socket that others could not reach
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    env = {"SLURM_CONF": str(folder / "slurm.conf")}
    (folder / "slurm.conf").write_text(
        SLURM_CONF.format(
            folder=folder,
            host=socket.gethostname().split(".")[0],
            user=getpass.getuser(),
            cpus=CPUS,
            memory=MEMORY_MB,
            controller_port=free_port(),
            node_port=free_port(),
        )
    )
    paths = [f"--{name}={folder}/munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
    daemons = (
        ["munged", "--foreground", "--force", f"--key-file={folder}/munge.key", *paths],
        ["slurmctld", "-D", "-i"],
        ["slurmd", "-D", "-N", "node0"],
    )

    def idle() -> bool:
        command = ["sinfo", "--noheader", "--format=%T"]
        return "idle" in subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True).stdout

    with ExitStack() as stack:
        log = stack.enter_context((folder / "daemons.log").open("w"))
        started = []
        for daemon in daemons:
            running_daemon = running(*daemon, env={**os.environ, **env}, stdout=log, stderr=log)
            started.append(stack.enter_context(running_daemon))
            wait_until((folder / "munge.socket").exists, "munged listens")
        wait_until(idle, f"SLURM's node is idle, see {folder}")
        yield env
        subprocess.run(["scancel", f"--user={getpass.getuser()}"], env={**os.environ, **env}, check=False)
        for process in reversed(started):
            process.terminate()
        for process in reversed(started):
            process.wait(timeout=30)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def ray_cluster() -> "Iterator[Cluster]":
    """A Ray cluster of two nodes, with one processor each; its `address` joins it.

    Tests that remove a node come last in their module.
    """
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "gcs_server_port": free_port()})
    try:
        cluster.add_node(**node)
        yield cluster
    finally:
        cluster.shutdown()
