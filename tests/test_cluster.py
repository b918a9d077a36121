"""Batch prediction and `prepare` of a table on a Ray cluster of two nodes, of which one is lost in the middle."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from clusters import ray_cluster, wait_until
from conftest import BakedProject, Result, digests
from processes import kill, running
from test_memory import with_table

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytestmark = pytest.mark.pipeline

__all__ = ["ray_cluster"]  # a fixture
ROWS = 200_000  # of 110 bytes: three tasks
SRC = {"PYTHONPATH": "src"}
PREPARE = ("-m", "my_experiment.stages.prepare")


@pytest.fixture(scope="module")
def project(bake: Callable[..., BakedProject]) -> BakedProject:
    """A project with a large table that one machine has prepared, and a model."""
    project = with_table(bake(task="tabular-regression"), ROWS)
    for stage in ("prepare", "train"):
        project.run("python", "-m", f"my_experiment.stages.{stage}", env=SRC)
    return project


def on(cluster: "Cluster") -> dict[str, str]:
    """The environment of a command that computes on a cluster."""
    return {**SRC, "EXECUTOR": "ray", "RAY_ADDRESS": cluster.address}


def at_work(raylet: psutil.Process) -> bool:
    """Whether a node runs a task."""
    for child in raylet.children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            if "ray::_results" in " ".join(child.cmdline()):
                return True
    return False


@contextmanager
def computing(
    cluster: "Cluster", project: BakedProject, *command: str
) -> Iterator[tuple["subprocess.Popen[str]", psutil.Process]]:
    """A command, and the raylet of the node beside the head, which runs a task of it."""
    (node,) = cluster.worker_nodes
    (raylet,) = (psutil.Process(info.process.pid) for info in node.all_processes["raylet"])
    with running(
        sys.executable, *command, cwd=project.path, env={**os.environ, **on(cluster)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        wait_until(lambda: process.poll() is not None or at_work(raylet), "the node runs a task")
        assert process.poll() is None, process.communicate()
        yield process, raylet


def lose_a_node(cluster: "Cluster", project: BakedProject, *command: str) -> Result:
    """Runs a command on a cluster; the node beside the head is lost while it runs a task, and another one joins."""
    (node,) = cluster.worker_nodes
    with computing(cluster, project, *command) as (process, raylet):
        lost = raylet.children(recursive=True)
        for worker in lost:
            worker.suspend()  # so that no task ends well before the node is gone
        cluster.remove_node(node, allow_graceful=False)
        for worker in lost:
            worker.kill()
        out, err = process.communicate(timeout=300)
    cluster.add_node(num_cpus=1, object_store_memory=100 << 20, include_dashboard=False)
    assert "the task will be retried" in out, "the node ran no task"
    return Result([*command], process.returncode, out, err)


def outputs(project: BakedProject) -> dict[str, str]:
    """Digests of what `prepare` writes."""
    return {name: digest for name, digest in digests(project).items() if name.startswith(("data/", "reports/data"))}


def test_prepare_gives_the_same_bytes_though_a_node_is_lost(project: BakedProject, ray_cluster: "Cluster") -> None:
    before = outputs(project)
    done = lose_a_node(ray_cluster, project, *PREPARE)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert outputs(project) == before


def test_an_interruption_ends_the_tasks(project: BakedProject, ray_cluster: "Cluster", tmp_path: Path) -> None:
    command = ("-m", "my_experiment", "predict", "data/raw/table.csv", str(tmp_path / "out.csv"))
    with computing(ray_cluster, project, *command) as (process, raylet):
        kill(process, signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (130, "interrupted: run the same command to continue\n")
        wait_until(lambda: not at_work(raylet), "the task is gone")
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv.parts"]


def test_predict_gives_the_same_bytes_though_a_node_is_lost(
    project: BakedProject, ray_cluster: "Cluster", tmp_path: Path
) -> None:
    """A row that cannot be predicted has its error, from whichever node."""
    lines = (project.path / "data/raw/table.csv").read_text().splitlines()
    lines[ROWS // 2] += ",more"
    lines[ROWS - 1] = f"tall,{lines[ROWS - 1].partition(',')[2]}"
    (tmp_path / "in.csv").write_text("\n".join(lines) + "\n")
    command = ("-m", "my_experiment", "predict", str(tmp_path / "in.csv"))
    here = project.run(sys.executable, *command, str(tmp_path / "here.csv"), env=SRC, check=False)
    there = lose_a_node(ray_cluster, project, *command, str(tmp_path / "there.csv"))
    assert there.returncode == here.returncode == 3, there.stderr
    assert there.stderr == here.stderr == "2 items could not be predicted: see the column `error`\n"
    assert there.stdout.endswith(here.stdout.replace("here.csv", "there.csv"))
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("here.csv", "here.csv.json", "in.csv", "there.csv", "there.csv.json")
    ]
