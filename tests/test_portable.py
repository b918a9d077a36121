"""The same bytes on other processors, emulated by QEMU, and with another number of cores.

`make portable` trains every shipped model on three emulated processors, for two hours; the suite runs what is quick: a
model without TensorFlow on one of them, and a network on one core.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest
import yaml
from conftest import ROOT, BakedProject, Copy
from debian import apt_install

pytestmark = pytest.mark.pipeline
Digests = dict[str, dict[str, str]]  # overrides -> path -> MD5

RECENT = 10  # version of QEMU
# Two vendors and several generations, with other caches; QEMU emulates no AVX-512.
PROCESSORS = ["Haswell", "EPYC-Rome", "Skylake-Client-v4"]
# In an emulator, a picture takes seconds.
ASKED = "explain.examples=2 explain.shown=1 explain.background=2 robustness=default robustness.examples=4"
ROWS = f"{ASKED} robustness.queries=8 robustness.epsilons=[0.2]"
PICTURES = f"{ASKED} robustness.queries=4 robustness.epsilons=[8] robustness.white_box=true"
FEW = f"prepare.validation=0.04 prepare.test=0.04 train.epochs=1 {PICTURES}"
PRETRAINED = f"{FEW} train.limit=4 model.weights=null model.fine_tune_layers=3 model.fine_tune_epochs=1"
MODELS = {
    "image-classification": [
        f"{FEW} train.limit=64",
        f"experiment=mlp augmentation=strong {FEW} train.limit=64",
        f"experiment=mobilenet_v3 {PRETRAINED}",
        f"experiment=resnet50 {PRETRAINED}",
    ],
    "tabular-classification": [
        f"train.epochs=3 {ROWS}",
        f"experiment=logistic_regression {ROWS}",
        f"experiment=gradient_boosting train.iterations=20 {ROWS}",
    ],
    "tabular-regression": [
        f"train.epochs=3 {ROWS}",
        f"features=hashing train.epochs=2 {ROWS}",
        f"experiment=linear_regression {ROWS}",
        f"experiment=gradient_boosting train.iterations=20 {ROWS}",
    ],
}


def emulator(processor: str, recent: bool = False) -> tuple[str, ...]:
    """The command before the path of a Python that runs it on another processor.

    Args:
        processor: Its name in QEMU.
        recent: Whether it is for hours of TensorFlow: that of Debian 12 (7.2) ends with a segmentation fault.
    """
    if not shutil.which("qemu-x86_64"):
        apt_install("qemu-user")
    version = subprocess.run(["qemu-x86_64", "--version"], check=True, capture_output=True, text=True).stdout
    if recent and int(version.split()[2].partition(".")[0]) < RECENT:
        apt_install("qemu-user", backports=True)
    return ("qemu-x86_64", "-0", sys.executable, "-cpu", processor)


def core() -> str:
    """A processor that this process may use."""
    return str(min(os.sched_getaffinity(0)))


def digests(project: BakedProject, models: list[str], *before: str) -> Digests:
    """Runs the stages as dvc.yaml does, with a command before Python's path; gives what they write."""
    command = yaml.safe_load(project.read("dvc.yaml"))["stages"]["train"]["cmd"]
    variables = command.partition(" python ")[0].split()
    python = os.path.realpath(sys.executable) if "qemu-x86_64" in before else sys.executable
    script = (str(ROOT / "tests" / "portable.py"), "my_experiment")
    done = project.run("env", *variables, *before, python, *script, *models)
    result: Digests = json.loads(done.stdout.splitlines()[-1])
    assert result.keys() == set(models) and all(len(files) > 8 for files in result.values())
    return result


@pytest.fixture(scope="module")
def table(bake: Callable[..., BakedProject]) -> BakedProject:
    """A project for tables."""
    return bake(task="tabular-classification")


def test_a_model_on_another_processor(table: BakedProject, copy: Copy) -> None:
    model = ["experiment=logistic_regression explain=none"]  # in an emulator, shap takes minutes to import
    assert digests(copy(table), model, *emulator("Haswell")) == digests(copy(table), model)


def test_a_network_on_one_core(table: BakedProject, copy: Copy) -> None:
    model = [f"train.epochs=2 {ROWS}"]
    assert digests(copy(table), model, "taskset", "--cpu-list", core()) == digests(copy(table), model)


@pytest.fixture(scope="module", params=sorted(MODELS))
def native(
    request: pytest.FixtureRequest, bake: Callable[..., BakedProject]
) -> tuple[BakedProject, list[str], Digests]:
    """A project of each task, its models, and their outputs on this processor."""
    project, models = bake(task=request.param), MODELS[request.param]
    return project, models, digests(project, models)


@pytest.mark.portable
@pytest.mark.parametrize("processor", PROCESSORS)
def test_every_model_on_other_processors(
    native: tuple[BakedProject, list[str], Digests], copy: Copy, processor: str
) -> None:
    project, models, expected = native
    assert digests(copy(project), models, *emulator(processor, recent=True)) == expected


@pytest.mark.portable
def test_every_model_on_one_core(native: tuple[BakedProject, list[str], Digests], copy: Copy) -> None:
    project, models, expected = native
    assert digests(copy(project), models, "taskset", "--cpu-list", core()) == expected
