"""The NVIDIA GPU of this machine, and why TensorFlow does not use it.

TensorFlow is not imported here: the reason is in files of the driver and of the environment.
"""

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

# The CUDA for which the locked TensorFlow is built, and the oldest driver for it:
# https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
CUDA = 12
DRIVER = (525, 60)

HIDDEN = ("", "-1", "NoDevFiles")  # the last is SLURM's, for a job without GPUs
SETUP = "make setup GPU=1"
ON_PROCESSOR = "train on the processor: CUDA_VISIBLE_DEVICES=-1"


def unused(root: Path, environment: Mapping[str, str]) -> str | None:
    """Why TensorFlow finds no GPU, and what to do.

    Args:
        root: Root of the file system.
        environment: Environment variables.

    Returns:
        The reason; None if there is no NVIDIA driver, or CUDA_VISIBLE_DEVICES hides the GPUs.
    """
    windows = (root / "usr/lib/wsl/lib/libcuda.so.1").exists()
    version = driver(root)
    if not (windows or version) or environment.get("CUDA_VISIBLE_DEVICES", "0").strip() in HIDDEN:
        return None
    if not windows and not (root / "dev/nvidiactl").exists():
        remedy = "/dev/nvidiactl is missing: start a container with its GPUs, `docker run --gpus all` for instance"
    elif version and version < DRIVER:
        found, oldest = (".".join(map(str, each)) for each in (version, DRIVER))
        remedy = f"its driver {found} is too old for CUDA {CUDA}: install {oldest} or later"
    elif not libraries():
        remedy = f"CUDA's libraries are not installed: `{SETUP}`"
    else:
        listed = "import tensorflow as tf; tf.config.list_physical_devices()"
        remedy = f"TensorFlow says why: TF_CPP_MIN_LOG_LEVEL=0 python -c '{listed}'"
    return f"{remedy} (if this is meant: CUDA_VISIBLE_DEVICES=-1)"


def driver(root: Path) -> tuple[int, int] | None:
    """First two numbers of the driver's version; None without a driver, or in WSL2.

    Args:
        root: Root of the file system.
    """
    try:
        text = (root / "proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"\b(\d{3,})\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def libraries() -> bool:
    """Whether the lock `gpu` is installed."""
    try:
        return importlib.util.find_spec("nvidia.cudnn") is not None
    except ModuleNotFoundError:
        return False
