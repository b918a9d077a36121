"""The launchers of sweeps, each run for real: in this process, joblib, Ray on two nodes, SLURM on one.

The workers are tiny: they write where they run, and wait; the test then kills them or lets them end.
Two sweeps are real.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clusters import CPUS, ray_cluster, slurm, wait_until
from conftest import VENV, BakedProject, Copy, quiet
from processes import kill

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytestmark = pytest.mark.pipeline

__all__ = ["ray_cluster", "slurm"]  # fixtures
SWEEP = (sys.executable, "-m", "my_experiment", "sweep")

# A worker: writes its environment for the test, waits for the file `go`, and ends as the test wants it to.
WORKER = """\
import json, os, time
from pathlib import Path

def work(folder):
    folder, me = Path(folder), os.getpid()
    names = "PYTHONHASHSEED MALLOC_ARENA_MAX TQDM_DISABLE OPTUNA_STORAGE".split()
    names += "SLURM_CPUS_PER_TASK SLURM_MEM_PER_NODE SLURM_MARK".split()
    state = {"cwd": os.getcwd(), "parent": os.getppid()}
    state |= {name: os.environ.get(name) for name in names}
    (folder / "writing").mkdir(exist_ok=True)
    (folder / "writing" / str(me)).write_text(json.dumps(state))
    (folder / "writing" / str(me)).rename(folder / f"worker-{me}")
    while not (folder / "go").exists():
        time.sleep(0.05)
    if (folder / f"fail-{me}").exists():
        raise ValueError("what a worker\\nsays")
    (folder / f"done-{me}").touch()
"""

# The sweep: calls a launcher with its section of conf/launcher/, and prints its result.
PARENT = """\
import functools, json, os, sys
from pathlib import Path
from omegaconf import OmegaConf
from my_experiment.harness.core import config, stages
from my_experiment.harness.sweep.launchers import slurm
import worker

name, options, folder = sys.argv[1:]
slurm.SQUEUE_SECONDS = 1

def main():
    section = OmegaConf.to_container(OmegaConf.load(f"conf/launcher/{name}.yaml")) | json.loads(options)
    config.check({"launcher": section}, {}, ["launcher"])
    lost = config.instantiate(section, functools.partial(worker.work, folder), Path(folder, "study"))
    print("RESULT", json.dumps({"lost": lost, "pid": os.getpid()}))

stages.run(main)
"""


@dataclass(frozen=True)
class Sweep:
    """A launcher in a process of its own, and the folder through which its workers and the test communicate."""

    process: "subprocess.Popen[str]"
    folder: Path

    def workers(self, count: int) -> dict[int, dict[str, Any]]:
        """Waits until `count` workers run; returns process id -> what the worker has written."""
        wait_until(lambda: self.process.poll() is not None or len(self._written("worker")) >= count, "workers run")
        pids = self._written("worker")
        assert len(pids) == count, self.process.communicate()
        return {pid: json.loads((self.folder / f"worker-{pid}").read_text()) for pid in pids}

    def go(self, *fail: int) -> None:
        """Lets the workers end, those named with an error."""
        for pid in fail:
            (self.folder / f"fail-{pid}").touch()
        (self.folder / "go").touch()

    def result(self) -> dict[str, Any]:
        """Waits for the end; returns the result of the launcher."""
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, out + err
        assert not re.search("warning|traceback", err, re.IGNORECASE), err
        result: dict[str, Any] = json.loads(out.split("RESULT ")[1])
        return result

    def error(self) -> str:
        """Waits for the end, which must be an error; returns its last line."""
        _, err = self.process.communicate(timeout=60)
        assert self.process.returncode != 0
        assert "Traceback" not in err
        return err.strip().splitlines()[-1]

    def interrupt(self) -> None:
        """Sends Ctrl-C to all processes, as a terminal does, and waits for the end."""
        kill(self.process, signal.SIGINT)
        assert self.error().startswith("interrupted")

    def done(self) -> list[int]:
        """Process ids of the workers that ended well."""
        return self._written("done")

    def _written(self, kind: str) -> list[int]:
        return sorted(int(path.name.split("-")[1]) for path in self.folder.glob(f"{kind}-*"))


Start = Callable[..., Sweep]


def gone(pids: Iterator[int] | list[int]) -> bool:
    """Whether none of these processes runs; a zombie does not count."""
    stats = [Path("/proc", str(pid), "stat") for pid in pids]
    return not any(stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z" for stat in stats)


@pytest.fixture
def start(default_project: BakedProject, tmp_path: Path) -> Iterator[Start]:
    """Starts a launcher: `start("joblib", workers=2)`."""
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "worker.py").write_text(WORKER)
    sweeps: list[Sweep] = []

    def starter(name: str, env: Mapping[str, str] | None = None, **options: Any) -> Sweep:
        folder = tmp_path / f"{name}-{len(sweeps)}"
        folder.mkdir()
        paths = {"PYTHONPATH": f"src{os.pathsep}{sources}", "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        process = subprocess.Popen(
            [sys.executable, "-c", PARENT, name, json.dumps(options), str(folder)],
            cwd=default_project.path,
            env={**os.environ, **paths, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a process group, which Ctrl-C is sent to as a terminal does
        )
        sweeps.append(Sweep(process, folder))
        return sweeps[-1]

    yield starter
    for sweep in sweeps:
        sweep.go()
        kill(sweep.process)


def test_local_runs_one_worker_here(start: Start) -> None:
    sweep = start("local")
    ((pid, _),) = sweep.workers(1).items()
    sweep.go()
    assert sweep.result() == {"lost": [], "pid": pid}


def lose_two(sweep: "Sweep", killed: int, failed: int, well: int) -> dict[str, Any]:
    """Kills a worker and lets another one raise: the third ends well. Returns the result of the launcher."""
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: gone([killed]), "the worker is dead")
    sweep.go(failed)
    result = sweep.result()
    assert sweep.done() == [well]
    assert len(result["lost"]) == 2
    assert "ValueError: what a worker says" in "\n".join(result["lost"])
    return result


def test_joblib_loses_no_worker_with_another(start: Start, default_project: BakedProject) -> None:
    """One is killed and one raises: the third goes on, in the environment of the stage `train`."""
    sweep = start("joblib", workers=3)
    (killed, failed, well), states = sorted(sweep.workers(3)), sweep.workers(3)
    assert states[well] == {
        "cwd": str(default_project.path),
        "parent": sweep.process.pid,
        "PYTHONHASHSEED": "0",
        "MALLOC_ARENA_MAX": "1",
        "TQDM_DISABLE": "1",
        "OPTUNA_STORAGE": None,
        "SLURM_CPUS_PER_TASK": None,
        "SLURM_MEM_PER_NODE": None,
        "SLURM_MARK": None,
    }
    result = lose_two(sweep, killed, failed, well)
    text = "\n".join(result["lost"])
    assert "SIGKILL" in text


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=lambda end: end.name)
def test_joblib_workers_end_with_their_parent(start: Start, end: signal.Signals) -> None:
    sweep = start("joblib", workers=2)
    workers = list(sweep.workers(2))
    if end == signal.SIGINT:
        sweep.interrupt()
    else:
        sweep.process.kill()
        assert sweep.process.communicate(timeout=60)[1] == ""
    wait_until(lambda: gone(workers), "the workers are gone")
    assert sweep.done() == []


def test_ray_here_ends_with_its_parent(start: Start) -> None:
    sweep = start("ray", workers=1)
    ((pid, state),) = sweep.workers(1).items()
    assert (state["PYTHONHASHSEED"], state["MALLOC_ARENA_MAX"]) == ("0", "1")
    sweep.interrupt()
    wait_until(lambda: gone([pid, state["parent"]]), "the worker and its raylet are gone")
    assert sweep.done() == []


def test_ray_says_what_is_wrong(start: Start, ray_cluster: "Cluster") -> None:
    away, malformed = start("ray", address="127.0.0.1:1"), start("ray", address="ray://head:10001")
    large = start("ray", address=ray_cluster.address, cpus=10_000)
    assert away.error().startswith("error: launcher.address: no Ray cluster answers at 127.0.0.1:1: ")
    assert "launcher.address" in malformed.error()
    assert large.process.stderr is not None
    assert "no node has the 10000 CPUs" in large.process.stderr.readline()
    large.interrupt()


def test_ray_trains_what_the_page_shows(quick_project: BakedProject, copy: Copy, ray_cluster: "Cluster") -> None:
    """A real sweep for debugging, as docs/sweep.md shows it, with a worker on each node."""
    project = copy(quick_project)
    (line,) = re.findall(r"^python -m \S+ sweep (.* debug=limit)$", project.read("docs/sweep.md"), re.MULTILINE)
    launcher = ("launcher=ray", f"launcher.address={ray_cluster.address}", "launcher.workers=2")
    done = project.run(*SWEEP, *line.split(), *launcher, "sweep.name=page", env={"PYTHONPATH": "src"})
    quiet(done)
    assert "sweep page: 0 of 2 trials have ended, 2 are left" in done.stderr
    assert {"16", "32"} <= set(done.stdout.split())
    assert "no experiment is written" in done.stdout and project.git_status() == ""


def test_slurm_trains_what_the_pipeline_reproduces(
    quick_project: BakedProject, copy: Copy, slurm: dict[str, str]
) -> None:
    """A real sweep, in a job."""
    project = copy(quick_project)
    launcher = ("launcher=slurm", "launcher.workers=1", "launcher.cpus_per_task=1")
    arguments = ("train.learning_rate=0.003,0.01", "train.epochs=1", "sweep.name=jobs")
    done = project.run(*SWEEP, *arguments, *launcher, env={**slurm, "PYTHONPATH": "src"})
    quiet(done)
    assert project.git_status() == "?? conf/experiment/jobs.yaml\n"


def test_ray_loses_only_the_worker_of_a_lost_node(start: Start, ray_cluster: "Cluster") -> None:
    sweep = start("ray", {"OPTUNA_STORAGE": "sweeps/journal.log"}, workers=2, address=ray_cluster.address)
    states = sweep.workers(2)
    assert len({state["parent"] for state in states.values()}) == 2, "one worker on each node"
    assert {state["OPTUNA_STORAGE"] for state in states.values()} == {"sweeps/journal.log"}
    (node,) = ray_cluster.worker_nodes
    ray_cluster.remove_node(node, allow_graceful=False)
    wait_until(lambda: any(gone([pid]) for pid in states), "the node's worker is gone")
    (left,) = (pid for pid in states if not gone([pid]))
    sweep.go()
    result = sweep.result()
    assert sweep.done() == [left]
    assert len(result["lost"]) == 1


def test_slurm_loses_no_worker_with_another(start: Start, slurm: dict[str, str], default_project: BakedProject) -> None:
    """One is killed and one raises: the third goes on, and each reason names the log."""
    sweep = start("slurm", slurm, workers=3, cpus_per_task=1, mem_gb=0.5, setup=["export SLURM_MARK=here"])
    (killed, failed, well), states = sorted(sweep.workers(3)), sweep.workers(3)
    assert {name: value for name, value in states[well].items() if name != "parent"} == {
        "cwd": str(default_project.path),
        "PYTHONHASHSEED": "0",
        "MALLOC_ARENA_MAX": "1",
        "TQDM_DISABLE": "1",
        "OPTUNA_STORAGE": None,
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_MEM_PER_NODE": "512",
        "SLURM_MARK": "here",
    }
    result = lose_two(sweep, killed, failed, well)
    text = "\n".join(result["lost"])
    assert ": FAILED, see " in text
    assert all(Path(line.split("see ")[1]).exists() for line in result["lost"])


def scontrol(slurm: Mapping[str, str], state: str) -> None:
    """Sets the state of the node, as an administrator does."""
    command = ["scontrol", "update", "NodeName=node0", f"State={state}", "Reason=test"]
    subprocess.run(command, env={**os.environ, **slurm}, check=True)


def test_slurm_waits_for_no_worker_without_work(start: Start, slurm: dict[str, str]) -> None:
    """Jobs in the queue are canceled once a worker has found no trial left.

    The sweep runs in a job itself, whose variables are not passed on.
    """
    job = {"SLURM_JOB_ID": "999", "SLURM_ARRAY_JOB_ID": "999", "SLURM_ARRAY_TASK_ID": "7", "SLURM_MARK": "inherited"}
    sweep = start("slurm", {**slurm, **job}, workers=2, cpus_per_task=CPUS)
    ((_, state),) = sweep.workers(1).items()
    assert state["SLURM_CPUS_PER_TASK"] == str(CPUS)
    assert state["SLURM_MARK"] is None
    scontrol(slurm, "drain")
    try:
        sweep.go()
        assert sweep.result()["lost"] == []
        queue = ["squeue", "--noheader", "--states=pending"]
        assert subprocess.run(queue, env={**os.environ, **slurm}, capture_output=True, text=True).stdout == ""
    finally:
        scontrol(slurm, "resume")


def test_slurm_cancels_jobs_on_interrupt(start: Start, slurm: dict[str, str]) -> None:
    sweep = start("slurm", slurm, workers=2, cpus_per_task=1)
    workers = list(sweep.workers(2))
    sweep.interrupt()
    wait_until(lambda: gone(workers), "the jobs are gone")
    assert sweep.done() == []


def test_slurm_says_what_is_wrong(start: Start, slurm: dict[str, str]) -> None:
    refused = start("slurm", slurm, partition="elsewhere")
    away = start("slurm", {"PATH": str(VENV / "bin")})
    assert "elsewhere" in refused.error()
    assert "there is no sbatch on PATH" in away.error()
