"""What a person with an NVIDIA GPU relies on, checked in a generated project whose results the processor has made.

    make gpu                                        on a machine with a GPU: makes the project, then runs this
    PROJECT/.venv/bin/python benchmarks/gpu.py PROJECT [--tiny]

libraries    CUDA's libraries are those of the lock, each can be loaded, and TensorFlow finds the GPU
used         the training computes on the GPU
repeated     two trainings give the same bytes, also with XLA, and for every shipped network
mirrored     on one device: the bytes of `none`; on a GPU that is divided into two: what one device learns
precision    mixed_float16 and mixed_bfloat16 train, and their export is float32
xla          learns the same, or refuses a model in one line
memory       a model that is too large is refused in one line
verdict      the results, against those of the processor
throughput   images a second, against a hand-written `model.fit`

Without a GPU, the processor stands for it as far as that goes, and the rest is said to be not possible here. The last
line on stdout is JSON: check -> outcome and figures. The exit status is 1 if a check has failed. `--tiny` is for the
tests: fewer and shorter trainings.
"""

import ctypes
import hashlib
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve()
OK, FAILED, IMPOSSIBLE = "ok", "FAILED", "not possible here"
TOLERANCE = 0.02  # of a loss: two devices weigh the rows of a last batch unequally, XLA rounds differently
PARTS_MB = 4096  # memory of each half of a GPU
TOO_LARGE = 50_000_000  # units: 300 GB and more of weights
SHORT, TINY = {"train.epochs": 5, "train.patience": 5}, {"train.epochs": 1, "train.limit": 64}

Changes = Mapping[str, Any]


class Check(Exception):
    """A check that does not hold, or cannot be made."""

    def __init__(self, outcome: str, why: str) -> None:
        """Keeps both."""
        super().__init__(why)
        self.outcome = outcome


def require(holds: bool, why: str) -> None:
    """Fails the check where something does not hold."""
    if not holds:
        raise Check(FAILED, why)


# In a process of its own


def names(project: Path) -> str:
    """The project's package."""
    (package,) = (path.name for path in (project / "src").iterdir() if (path / "__init__.py").is_file())
    return package


def trainings(project: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    """Trains the variants of a job one after the other, and says what came of each.

    Args:
        project: The project.
        job: `parts` of the first device; `variants`, name -> changes of params.yaml; `fits` of benchmarks/fit.py.
    """
    sys.path.insert(0, str(project / "src"))
    tf = importlib.import_module(f"{names(project)}.harness.training.quiet").tf
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    devices = tf.config.list_physical_devices(kind)
    tf.get_logger().setLevel("ERROR")  # it warns that one process traces many models
    facts: dict[str, Any] = {"kind": kind, "cuda": tf.sysconfig.get_build_info()["cuda_version"]}
    facts["devices"] = [tf.config.experimental.get_device_details(each) for each in devices if kind == "GPU"]
    if job["parts"] > 1:
        part = tf.config.LogicalDeviceConfiguration(**({"memory_limit": PARTS_MB} if kind == "GPU" else {}))
        tf.config.set_logical_device_configuration(devices[0], [part] * job["parts"])
    elif kind == "GPU":
        tf.config.set_visible_devices(devices[0], "GPU")  # checked as on a machine with one
    facts["variants"] = {}
    for name, changes in job["variants"].items():
        with variant(project, changes):
            facts["variants"][name] = training(names(project), kind, tf)
    if job["fits"]:
        fit, said = importlib.import_module("fit"), io.StringIO()
        with redirect_stdout(said):
            fit.main(project, "on", ["package", "hand"], job["fits"])
        facts["speeds"] = json.loads(said.getvalue().splitlines()[-1])
    return facts


@contextmanager
def variant(project: Path, changes: Changes) -> Iterator[None]:
    """Works in a folder that has the project's data and changed parameters."""
    import yaml

    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    for key, value in changes.items():
        *path, last = key.split(".")
        section = params
        for part in path:
            section = section[part]
        if last == "*":  # the option of a group
            text = (project / f"conf/{path[0]}/{value}.yaml").read_text(encoding="utf-8")
            section.clear()
            section.update(yaml.safe_load(text))
        else:
            section[last] = value
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        for name in ("conf", "data", "src"):
            (Path(folder) / name).symlink_to(project / name)
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def training(package: str, kind: str, tf: Any) -> dict[str, Any]:
    """Runs the stage `train` in this process: what it writes, how long it takes, or the one line that it ends with."""
    import keras

    keras.utils.clear_session()  # layers are numbered within a process; a stage has a process of its own
    stage = importlib.import_module(f"{package}.stages.train")
    user_error = importlib.import_module(f"{package}.harness.core.errors").UserError
    begin = time.perf_counter()
    try:
        stage.main()
    except user_error as error:
        return {"error": str(error)}
    spent = time.perf_counter() - begin
    written = [path for path in sorted(Path().rglob("*")) if path.is_file() and path.parts[0] in ("models", "reports")]
    rows = [row.split(",") for row in Path("reports/history.csv").read_text(encoding="utf-8").splitlines()]
    history = {column: [float(row[i]) for row in rows[1:]] for i, column in enumerate(rows[0])}
    return {
        "seconds": round(spent, 2),
        "bytes": {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in written},
        "history": history,
        "peak": tf.config.experimental.get_memory_info("GPU:0")["peak"] if kind == "GPU" else None,
    }


# The checks


class Machine:
    """The trainings that the checks look at, each made once."""

    def __init__(self, project: Path, tiny: bool) -> None:
        """Trains all variants, in two processes.

        Args:
            project: The project.
            tiny: Whether as little as possible is trained.
        """
        self.project, self.tiny = project, tiny
        base = TINY if tiny else SHORT
        cnn: Changes = {**base} if not tiny else {**base, "model.*": "mlp"}
        mlp: Changes = {**base, "model.*": "mlp"}
        plain: Changes = {"model.*": "mlp", "model.dropout": 0.0, **base}
        xla = {"train.strategy.xla": True}
        variants: dict[str, Changes] = {
            "float32": cnn,
            "again": cnn,
            "mirrored": {**cnn, "train.strategy.distribution": "mirrored"},
            "mixed_bfloat16": {**cnn, "train.strategy.precision": "mixed_bfloat16"},
            "xla": {**plain, **xla},
        }
        if not tiny:
            variants["xla again"] = variants["xla"]
            variants["mixed_float16"] = {**cnn, "train.strategy.precision": "mixed_float16"}
            variants["cnn with xla"] = {**cnn, **xla}
            for network in ("mlp", "mobilenet_v3", "resnet50"):
                changes: Changes = {**mlp, "model.*": network}
                if network != "mlp":
                    changes = {**TINY, "model.*": network, "model.weights": None, "model.fine_tune_layers": 5}
                    changes["model.fine_tune_epochs"] = 1  # type: ignore[index]
                variants |= {network: changes, f"{network} again": changes}
        fits = ["digits=1"] if tiny else ["digits=5x2", "synthetic_cnn=3", "synthetic_mlp=3"]
        self.one = self.child({"parts": 1, "variants": variants, "fits": fits})
        halves = {"none": plain, "mirrored": {**plain, "train.strategy.distribution": "mirrored"}}
        self.two = self.child({"parts": 2, "variants": halves, "fits": []})
        self.gpu = self.one["kind"] == "GPU"

    def child(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Runs `trainings` in a process of its own."""
        command = [sys.executable, str(HERE), str(self.project), "--job", json.dumps(job)]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"a process of {HERE.name} ended with {done.returncode}")
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return told

    def trained(self, name: str) -> dict[str, Any]:
        """What a variant has become."""
        found: dict[str, Any] = self.one["variants"][name]
        require("error" not in found, f"{name}: {found.get('error')}")
        return found


def libraries(machine: Machine) -> str:
    """Whether what the lock names is installed, can be loaded and is found."""
    text = (machine.project / "requirements/gpu.lock").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^(nvidia-[\w-]+)==([\w.]+)", text, re.M))
    require(len(locked) > 5, "requirements/gpu.lock names no libraries of CUDA")
    installed = {each.name: each.version for each in metadata.distributions() if each.name.startswith("nvidia-")}
    if not installed.keys() & locked.keys():
        raise Check(IMPOSSIBLE, "CUDA's libraries are not installed: make setup GPU=1")
    wrong = [name for name, version in locked.items() if installed.get(name) != version]
    require(not wrong, f"not the locked version: {', '.join(wrong)}")
    loaded = []
    for name in locked:
        files = metadata.files(name) or []
        for file in (each for each in files if re.fullmatch(r"lib(cu\w+|nccl|nvJitLink|nvrtc)\.so\.\d+", each.name)):
            try:
                ctypes.CDLL(str(file.locate()), mode=ctypes.RTLD_GLOBAL)
            except OSError as error:  # one of cuDNN's needs the driver
                require("libcuda.so" in str(error) and not machine.gpu, str(error))
            else:
                loaded.append(file.name)
    if not machine.gpu:
        raise Check(IMPOSSIBLE, f"{len(loaded)} libraries were loaded, but TensorFlow finds no GPU")
    version = Path("/proc/driver/nvidia/version")
    driver = re.search(r"\b\d{3,}\.[\d.]+", version.read_text()) if version.exists() else None
    cards = ", ".join(str(device.get("device_name")) for device in machine.one["devices"])
    told = f"{cards}; driver {driver[0] if driver else '?'}; TensorFlow for CUDA {machine.one['cuda']}"
    return f"{told}; {len(locked)} locked packages, {len(loaded)} libraries loaded"


def used(machine: Machine) -> str:
    """Whether the training has taken memory of the GPU."""
    if not machine.gpu:
        raise Check(IMPOSSIBLE, "there is no GPU")
    peak = machine.trained("float32")["peak"]  # of the process so far: it is the first training
    require(peak > 1 << 20, f"only {peak} bytes of the GPU were used")
    return f"{peak >> 20} MiB at most"


def repeated(machine: Machine) -> str:
    """Whether a training twice has the same bytes."""
    pairs = [(name, other) for name in machine.one["variants"] if (other := f"{name} again") in machine.one["variants"]]
    pairs.insert(0, ("float32", "again"))
    for one, other in pairs:
        first, second = machine.trained(one)["bytes"], machine.trained(other)["bytes"]
        require(first == second, f"{one}: {', '.join(name for name in first if first[name] != second.get(name))}")
    return f"the same bytes twice: {', '.join(one for one, _ in pairs)}"


def mirrored(machine: Machine) -> str:
    """Whether one device is as `none`, and two learn what one does."""
    alone, same = (machine.trained(name)["bytes"] for name in ("float32", "mirrored"))
    wrong = [name for name in alone if name != "models/model.json" and alone[name] != same[name]]
    require(not wrong, f"on one device, not the bytes of `none`: {', '.join(wrong)}")
    one, two = (machine.two["variants"][name] for name in ("none", "mirrored"))
    require("error" not in two, str(two.get("error")))
    apart = distance(one, two)
    require(apart <= TOLERANCE, f"two halves of a device are {apart:.1%} apart from one")
    return f"one device: the bytes of `none`; two halves: {apart:.2%} apart at most"


def distance(one: Mapping[str, Any], two: Mapping[str, Any]) -> float:
    """Largest relative difference of the validation losses."""
    pairs = zip(one["history"]["val_loss"], two["history"]["val_loss"], strict=True)
    return max(abs(a - b) / abs(a) for a, b in pairs)


def precision(machine: Machine) -> str:
    """Whether mixed precision trains; the stage itself compares the export with the model."""
    told, base = [], machine.trained("float32")
    for name in ("mixed_bfloat16", "mixed_float16"):
        if name in machine.one["variants"]:
            trained = machine.trained(name)
            require(trained["bytes"] != base["bytes"], f"{name} has the bytes of float32")
            ratio = base["seconds"] / trained["seconds"]
            told.append(f"{name}: {ratio:.2f} times as fast as float32, with compiling and export")
    return "; ".join(told)


def xla(machine: Machine) -> str:
    """Whether XLA learns the same, and refuses in one line what it cannot compile."""
    apart = distance(machine.two["variants"]["none"], machine.trained("xla"))
    require(apart <= TOLERANCE, f"{apart:.1%} apart from a training without XLA")
    told = f"{apart:.2%} apart at most"
    if convolutions := machine.one["variants"].get("cnn with xla"):
        line = convolutions.get("error", "")
        require(not line or (line.startswith("train.strategy.xla: ") and "\n" not in line), line)
        told += f"; cnn: {line or 'compiled'}"
    return told


def memory(machine: Machine) -> str:
    """Whether a model that is too large is refused in one line."""
    if not machine.gpu:
        raise Check(IMPOSSIBLE, "a processor swaps instead of refusing")
    job = {"parts": 1, "variants": {"large": {**SHORT, "model.units": TOO_LARGE}}, "fits": []}
    line = machine.child(job)["variants"]["large"].get("error", "it was trained")
    require("has not enough memory" in line and "\n" not in line, line)
    return line


def verdict(machine: Machine) -> str:
    """Whether the GPU's results are those of the processor, as far as chance allows."""
    if not machine.gpu:
        raise Check(IMPOSSIBLE, "it would compare the processor's results with themselves")
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / machine.project.name
        shutil.copytree(machine.project, copied, symlinks=True, ignore=shutil.ignore_patterns(".venv"))
        for stage in ("train", "evaluate"):
            command = [sys.executable, "-m", f"{names(machine.project)}.stages.{stage}"]
            environment = {**os.environ, "PYTHONPATH": "src", "PYTHONHASHSEED": "0"}
            subprocess.run(command, cwd=copied, check=True, env=environment)
        metrics = json.loads((copied / "reports/metrics.json").read_text(encoding="utf-8"))
        records = [place / "machine.json" for place in (machine.project, copied)]
        before, after = (json.loads(each.read_text(encoding="utf-8")) if each.exists() else None for each in records)
    intervals = json.loads((machine.project / "reports/intervals.json").read_text(encoding="utf-8"))
    wrong = outside(intervals, metrics)
    require(not wrong, "; ".join(wrong))
    told = f"all {len(intervals)} metrics within the processor's intervals"
    if before and after:  # projects that record the machine of their results
        sys.path.insert(0, str(machine.project / "src"))
        judge = importlib.import_module(f"{names(machine.project)}.harness.tracking.verdict")
        found = judge.agreement(before, after)
        require(found.name == judge.EQUIVALENT, str(found))
        told += f"; {found}"
    return told


def outside(intervals: Mapping[str, list[float]], metrics: Mapping[str, float]) -> list[str]:
    """The metrics that are outside their intervals."""
    return [
        f"{name} is {metrics[name]:.4g}, outside {low:.4g} to {high:.4g}"
        for name, (low, high) in intervals.items()
        if not low <= metrics[name] <= high
    ]


def throughput(machine: Machine) -> str:
    """Images a second, the package's and by hand; no figure is held to a goal."""
    speeds = {
        data: {variant: median(values) for variant, values in variants.items()}
        for data, variants in machine.one["speeds"].items()
    }
    require(all(value > 0 for each in speeds.values() for value in each.values()), str(speeds))
    return "; ".join(
        f"{data}: {each['package']:,.0f} images a second, {each['package'] / each['hand']:.2f} of a fit by hand"
        for data, each in speeds.items()
    )


CHECKS: list[Callable[[Machine], str]] = [
    libraries, used, repeated, mirrored, precision, xla, memory, verdict, throughput,
]  # fmt: skip


def main(project: Path, tiny: bool) -> int:
    """Makes all checks, and prints an outcome for each."""
    machine, outcomes = Machine(project, tiny), {}
    for check in CHECKS:
        try:
            outcome, told = OK, check(machine)
        except Check as error:
            outcome, told = error.outcome, str(error)
        outcomes[check.__name__] = {"outcome": outcome, "told": told}
        print(f"{check.__name__:<11} {outcome}: {told}", flush=True)
    print(json.dumps(outcomes))
    return int(any(each["outcome"] == FAILED for each in outcomes.values()))


if __name__ == "__main__":
    place = Path(sys.argv[1]).resolve()
    if sys.argv[2:3] == ["--job"]:
        print(json.dumps(trainings(place, json.loads(sys.argv[3]))))
    else:
        sys.exit(main(place, sys.argv[2:] == ["--tiny"]))
