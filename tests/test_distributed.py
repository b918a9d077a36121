"""One training in two processes over loopback, each started in its own clone as a person or a scheduler does it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from conftest import VENV, BakedProject, Copy, digests, edit, free_port
from processes import kill

pytestmark = pytest.mark.pipeline

EPOCHS = 15
CHIEF = ("dvc", "repro", "train")
TRAIN = (sys.executable, "-m", "my_experiment.stages.train")

# Every row's number is noted as it is read; what is read ahead of a last epoch is left out.
MIRRORED = f"""
import numpy as np
import tensorflow as tf
processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
from my_experiment.harness.training import descent
from my_experiment.stages import train

class Watched(np.memmap):
    def __getitem__(self, index):
        if isinstance(index, np.ndarray):
            seen.extend(index.tolist())
        return super().__getitem__(index)

seen, descend = [], descent.descend
def watched(phase, training, *rest):
    assert tf.distribute.get_strategy().num_replicas_in_sync == 2
    array, count = phase.inputs.array, len(training.targets["train"])
    inputs = phase.inputs._replace(array=lambda split: array(split).view(Watched) if split == "train" else array(split))
    history = descend(phase._replace(inputs=inputs), training, *rest)
    epochs = np.reshape(seen[: {EPOCHS} * count], ({EPOCHS}, count))
    assert (np.sort(epochs) == np.arange(count)).all() and len(seen) <= ({EPOCHS} + 1) * count
    return history
descent.descend = watched
train.main()
"""


class Workers:
    """Two processes that train one model; each writes its output into a file of its own."""

    def __init__(self, chief: BakedProject, other: BakedProject, command: tuple[str, ...] = TRAIN) -> None:
        """Starts both.

        Args:
            chief: Where worker 0 runs.
            other: Where worker 1 runs.
            command: Of worker 0.
        """
        addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
        self.logs = [project.path.parent / f"worker-{rank}.log" for rank, project in enumerate((chief, other))]
        self.processes: list[subprocess.Popen[bytes]] = []
        for rank, (project, run) in enumerate(((chief, command), (other, TRAIN))):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
            changes = {
                "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": "src",
                "PYTHONHASHSEED": "0",
                "TF_CONFIG": json.dumps(task),
            }
            with self.logs[rank].open("wb") as log:
                self.processes.append(
                    subprocess.Popen(
                        run,
                        cwd=project.path,
                        env={**os.environ, **changes},
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )

    def wait(self, rank: int, seconds: float = 180) -> tuple[int, str]:
        """Gives exit status and output of one of them once it has ended."""
        status = self.processes[rank].wait(timeout=seconds)
        return status, self.logs[rank].read_text(encoding="utf-8")

    def stop(self) -> None:
        """Ends both."""
        for process in self.processes:
            kill(process)
            process.wait()


@contextmanager
def workers(chief: BakedProject, other: BakedProject, command: tuple[str, ...] = TRAIN) -> Iterator[Workers]:
    """Two workers for as long as the test needs them."""
    started = Workers(chief, other, command)
    try:
        yield started
    finally:
        started.stop()


def trained(project: BakedProject) -> dict[str, str]:
    """Gives the digests of what the stage `train` writes."""
    return {name: digest for name, digest in digests(project).items() if name.startswith(("models/", "reports/hist"))}


@pytest.fixture(scope="module")
def project(bake: Callable[..., BakedProject]) -> BakedProject:
    """A prepared project whose training is divided among workers. Do not change it: `copy` it."""
    project = bake(task="tabular-regression")
    edit(project, "conf/train/default.yaml", "strategy: default", "strategy: multi_worker")
    edit(project, "conf/train/default.yaml", "epochs: 60", f"epochs: {EPOCHS}")
    edit(project, "conf/train/default.yaml", "patience: 8", f"patience: {EPOCHS}")
    edit(project, "conf/train/default.yaml", "learning_rate: 0.001", "learning_rate: 0.0003")
    edit(project, "conf/model/mlp.yaml", "dropout: 0.3", "dropout: 0.0")  # or workers drop other units than one does
    project.run("dvc", "repro", "prepare")
    return project


@pytest.fixture(scope="module")
def together(project: BakedProject, copy: Copy) -> tuple[BakedProject, BakedProject]:
    """What two workers have left, the chief's folder first. Do not change them."""
    chief, other = copy(project), copy(project)
    with workers(chief, other, CHIEF) as running:
        for rank in range(2):
            status, output = running.wait(rank)
            assert status == 0, output
            assert "WARNING" not in output
    return chief, other


def test_two_workers_learn_what_one_does(
    project: BakedProject, together: tuple[BakedProject, BakedProject], copy: Copy
) -> None:
    alone = copy(project)
    edit(alone, "conf/train/default.yaml", "strategy: multi_worker", "strategy: default")
    alone.run("dvc", "repro", "config")
    alone.run(*TRAIN, env={"PYTHONPATH": "src", "PYTHONHASHSEED": "0"})
    histories = [
        np.loadtxt(folder.path / "reports/history.csv", delimiter=",", skiprows=1) for folder in (alone, together[0])
    ]
    assert len(histories[0]) == EPOCHS
    np.testing.assert_allclose(histories[0], histories[1], rtol=1e-3)


def test_the_chief_alone_writes(together: tuple[BakedProject, BakedProject]) -> None:
    chief, other = together
    assert set(trained(chief)) == {
        "models/model.json",
        "models/model.onnx",
        "models/weights.npz",
        "reports/history.csv",
    }
    assert trained(other) == {}
    assert not (chief.path / ".dvc/tmp/checkpoint").exists()


def test_devices_of_one_machine_learn_what_one_does(
    project: BakedProject, together: tuple[BakedProject, BakedProject], copy: Copy
) -> None:
    mirrored = copy(project)
    edit(mirrored, "conf/train/default.yaml", "strategy: multi_worker", "strategy: mirrored")
    mirrored.run("dvc", "repro", "config")
    environment = {"PYTHONPATH": "src", "PYTHONHASHSEED": "0", "CUDA_VISIBLE_DEVICES": "-1"}
    mirrored.run(sys.executable, "-c", MIRRORED, env=environment)
    one, two = (np.loadtxt(p.path / "reports/history.csv", delimiter=",", skiprows=1) for p in (together[0], mirrored))
    # The rows of the last batch weigh unequally, most in what is told of the training.
    np.testing.assert_allclose(one[:, 3:], two[:, 3:], rtol=0.02)


def lose(running: Workers, chief: BakedProject, rank: int, sent: signal.Signals) -> None:
    """Ends one worker after one more epoch; the other one must say so in one line."""
    checkpoints = chief.path / ".dvc/tmp/checkpoint"
    before = {(file.name, file.stat().st_mtime_ns) for file in checkpoints.glob("*.npz")}
    deadline = time.monotonic() + 120
    while {(file.name, file.stat().st_mtime_ns) for file in checkpoints.glob("*.npz")} == before:
        assert time.monotonic() < deadline and running.processes[0].poll() is None, running.logs[0].read_text()
        time.sleep(0.02)  # between two looks at the condition
    running.processes[rank].send_signal(sent)
    assert running.wait(rank, seconds=5)[0] == -sent
    status, output = running.wait(1 - rank, seconds=60)
    assert status == 1
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "is lost" in line
    assert "start all workers again" in line
    assert "Traceback" not in output
    assert trained(chief) == {}


def test_a_lost_worker_costs_an_epoch_at_most(
    project: BakedProject, together: tuple[BakedProject, BakedProject], copy: Copy
) -> None:
    chief, other = copy(project), copy(project)
    with workers(chief, other) as running:
        lose(running, chief, 0, signal.SIGTERM)
    with workers(chief, other) as running:
        lose(running, chief, 1, signal.SIGKILL)
        assert "resumes the interrupted training after epoch" in running.logs[0].read_text()
    with workers(chief, other) as running:
        for rank in range(2):
            status, output = running.wait(rank)
            assert status == 0, output
        found = re.search(r"resumes the interrupted training after epoch (\d+)", running.logs[0].read_text())
    assert found is not None
    assert 0 < int(found[1]) < EPOCHS - 1
    # As if nothing had happened, bit for bit.
    assert trained(chief) == trained(together[0])


def test_workers_that_train_something_else_are_refused(project: BakedProject, copy: Copy) -> None:
    chief, other = copy(project), copy(project)
    edit(other, "params.yaml", "learning_rate: 0.0003", "learning_rate: 0.0004")
    with workers(chief, other) as running:
        for rank in range(2):
            status, output = running.wait(rank)
            assert status == 1
            assert re.search(r"^error: train\.strategy: worker 1 .* has another configuration", output, re.MULTILINE)
            assert "Traceback" not in output
