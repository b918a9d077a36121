"""machine.json: the machine that trained the model of dvc.lock, and what its results were.

    model     MD5 of models/model.onnx, as in dvc.lock
    machine   processor, instructions, threads, libraries: whatever rounding depends on
    results   metrics with their intervals, and a sketch of the outputs on the test split

git keeps the file beside dvc.lock. It is no output of the pipeline, so that dvc.lock is the same on every machine that
gives the same bytes. A record is written for a new model only, and found again in the history of the file.
"""

import contextlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, PositiveFloat

from ..core import config, files, programs
from ..core.errors import UserError
from . import git

FILE = Path("machine.json")
MADE = Path(".dvc", "tmp", "machines")  # records made here, by model: DVC runs no stage for a cached training
Machine = Mapping[str, Any]  # name -> value, at most two levels deep
Record = dict[str, Any]
LIBRARIES = {  # module -> distribution
    "keras": "keras",
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "tensorflow": "tensorflow",
}
DISABLED = "NPY_DISABLE_CPU_FEATURES"  # variable; NumPy says that the processor does not have what it names
# Variables of the environment that choose other instructions, and so another rounding.
VARIABLES = (
    DISABLED,
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "TENSORFLOW_USE_CUSTOM_CONTRACTION_KERNEL",
    "TF_ENABLE_ONEDNN_OPTS",
    "XLA_FLAGS",
)


def here(portable: bool | None = None) -> dict[str, Any]:
    """The machine of this process, as far as its results depend on it.

    Only libraries that the process has imported are named.

    Args:
        portable: Whether the training was to give the same bytes on every processor, `train.portable`; None if unknown.
    """
    libc = " ".join(platform.libc_ver())
    content = {
        "processor": _processor(),
        "instructions": _instructions(),
        "processors": _processors(),
        "threads": _threads(),
        "blas": _blas(),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.machine()} {libc}".strip(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for module, name in LIBRARIES.items() if module in sys.modules},
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "portable": portable,
    }
    return {name: value for name, value in content.items() if value not in (None, "", {})}


def _processor() -> str:
    """The name of the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return programs.answer("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor() or platform.machine()


def _instructions() -> str:
    """The sets of instructions, as the processor tells NumPy: also true under emulation."""
    from numpy._core import _multiarray_umath  # type: ignore[attr-defined]  # as `numpy.show_runtime` reads them

    features: dict[str, bool] = _multiarray_umath.__cpu_features__
    return " ".join(name for name, present in features.items() if present)


def _instructions_without(disabled: str) -> str | None:
    """The sets of instructions in a process whose NumPy does without some: it reads the variable once.

    Args:
        disabled: Value of the variable.
    """
    code = f"from {__name__} import _instructions; print(_instructions())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), DISABLED: disabled}
    return programs.answer(sys.executable, "-c", code, env=environment)


def _processors() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads() -> int | None:
    """The threads that compute one operation of TensorFlow; None without TensorFlow."""
    if (tensorflow := sys.modules.get("tensorflow")) is None:
        return None
    return int(tensorflow.config.threading.get_intra_op_parallelism_threads()) or _processors()


def _blas() -> str:
    """The library of linear algebra, and the kind of processor for which it computes."""
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return ", ".join(sorted({f"{pool['internal_api']} {pool.get('architecture') or ''}".strip() for pool in pools}))


def _gpu() -> str | None:
    """The GPUs that TensorFlow sees, their driver and CUDA; None without any."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None or not (devices := tensorflow.config.list_physical_devices("GPU")):
        return None
    details = [tensorflow.config.experimental.get_device_details(device) for device in devices]
    names = ", ".join(str(detail.get("device_name", "unknown")) for detail in details)
    driver = (programs.answer("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") or "?").split("\n")[
        0
    ]
    build = tensorflow.sysconfig.get_build_info()
    return f"{names}, driver {driver}, CUDA {build.get('cuda_version', '?')}, cuDNN {build.get('cudnn_version', '?')}"


def today(trained: Machine) -> dict[str, Any]:
    """The machine here, on which a model of another one is evaluated.

    What the process of the stage knows alone (threads, variables) is taken to be the same.

    Args:
        trained: The machine that trained the model.
    """
    current = here()
    facts: dict[str, Any] = {
        name: current[name] for name in ("processor", "instructions", "system", "python") if name in current
    }
    disabled = trained.get("variables", {}).get(DISABLED, "")
    if disabled != os.environ.get(DISABLED, ""):
        facts["instructions"] = _instructions_without(disabled)
    return {**trained, **facts, "libraries": {name: version(name) for name in trained.get("libraries", {})}}


def record_training(model: Path, portable: bool | None) -> None:
    """Records that this machine trained a model, unless the model has a record.

    Args:
        model: The exported model.
        portable: Section `train`, key `portable`, of the configuration; None if it has no such key.
    """
    md5 = files.digest(model, "md5")
    write(recorded(md5) or {"model": md5, "machine": here(portable)})


def write(record: Record) -> None:
    """Writes machine.json if it says something else.

    Args:
        record: The record.
    """
    if record != read():
        files.write_text(FILE, _text(record))
    keep(record)


def keep(record: Record) -> None:
    """Keeps a record for the time when DVC takes its model from the cache.

    Args:
        record: The record.
    """
    files.write_text(MADE / f"{record['model']}.json", _text(record))


def _text(record: Record) -> str:
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def settle(model: str) -> bool:
    """Makes machine.json speak of a model, if a record of it is known.

    Args:
        model: MD5 of models/model.onnx, as in dvc.lock.

    Returns:
        Whether the file had spoken of another model.
    """
    known, found = read(), recorded(model)
    if found is None or (known is not None and known["model"] == model):
        return False
    write(found)
    return True


def _numbers(text: str) -> str:
    """Checks that a text is numbers; `float` raises ValueError."""
    [float(word) for word in text.split()]
    return text


class _Results(BaseModel):
    metrics: dict[str, tuple[float, float | None, float | None]]
    sketch: Annotated[str, AfterValidator(_numbers)]
    error: PositiveFloat


class _Record(BaseModel):
    """The form of machine.json: another one, as of another version of the template, counts as no record."""

    model: str
    machine: dict[str, str | int | bool | dict[str, str]]
    results: _Results | None = None


def read(commit: str | None = None) -> Record | None:
    """The record in machine.json; None if there is none, or none that can be read.

    Args:
        commit: Anything that git resolves to a commit; None for the workspace.
    """
    try:
        text = git.git("show", f"{commit}:./{FILE}") if commit else FILE.read_text(encoding="utf-8")
        return _parsed(text or "")
    except (OSError, ValueError, UserError):  # a conflict of a merge, no file, no repository
        return None


def _parsed(text: str) -> Record:
    """A record; raises ValueError for another form."""
    record: Record = json.loads(text)
    _Record.model_validate(record)
    return record


def recorded(model: str) -> Record | None:
    """The record of a model, from the workspace, the history of machine.json, or an earlier training here.

    Args:
        model: MD5 of models/model.onnx.
    """
    with contextlib.suppress(UserError):  # git is missing, or refuses: the training counts all the same
        for commit in (None, "HEAD"):
            if (found := read(commit)) and found["model"] == model:
                return found
        with contextlib.suppress(OSError, ValueError):
            return _parsed((MADE / f"{model}.json").read_text(encoding="utf-8"))
        for commit in (git.git("log", "--all", "--format=%H", "-S", model, "--", str(FILE)) or "").split():
            if (found := read(commit)) and found["model"] == model:
                return found
    return None


def describe(machine: Machine | None) -> str:
    """A machine in one line; "unknown" without a record.

    Args:
        machine: The machine.
    """
    if not machine:
        return "unknown: no machine.json of git speaks of this model"
    flat = config.flatten(dict(machine))
    shown = [str(flat.pop("processor", "unknown processor"))]
    shown += [f"{name.rpartition('.')[2]} {value}" for name, value in flat.items() if name != "instructions"]
    return ", ".join(shown)


def tags(model: str) -> dict[str, str]:
    """The machine that trained a model, as tags of its MLflow run.

    Args:
        model: MD5 of models/model.onnx.
    """
    machine = (recorded(model) or {}).get("machine", {})
    return {f"machine.{name}": str(value) for name, value in config.flatten(machine).items()}


def of_tags(content: Mapping[str, str]) -> dict[str, str]:
    """The machine in the tags of a run; empty if they name none.

    Args:
        content: Tags of a run.
    """
    return {name.removeprefix("machine."): value for name, value in content.items() if name.startswith("machine.")}
