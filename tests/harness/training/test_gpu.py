"""Why a GPU is not used: files of drivers made here, because no GPU is needed to have none."""

from pathlib import Path

import pytest
from my_experiment.harness.training import gpu

OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build\nGCC version: 12.3.0"
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Sun Jul  4 21:00:00 UTC 2021\nGCC version: 10.2.1"


def machine(root: Path, version: str = "", text: str = OPEN, device: bool = True) -> Path:
    """The files of a machine with this driver."""
    if version:
        (root / "proc/driver/nvidia").mkdir(parents=True)
        (root / "proc/driver/nvidia/version").write_text(text.format(version))
    if device:
        (root / "dev").mkdir(exist_ok=True)
        (root / "dev/nvidiactl").touch()
    return root


def test_without_a_driver_nothing_is_said(tmp_path: Path) -> None:
    assert gpu.unused(tmp_path, {}) is None


@pytest.mark.parametrize("hidden", ["", "-1", "NoDevFiles"])
def test_hidden_gpus_are_meant_to_be(tmp_path: Path, hidden: str) -> None:
    assert gpu.unused(machine(tmp_path, "580.95.05"), {"CUDA_VISIBLE_DEVICES": hidden}) is None


def test_missing_libraries_are_named(tmp_path: Path) -> None:
    said = gpu.unused(machine(tmp_path, "580.95.05"), {"CUDA_VISIBLE_DEVICES": "0"})
    assert said == (
        "CUDA's libraries are not installed: `make setup GPU=1` (if this is meant: CUDA_VISIBLE_DEVICES=-1)"
    )


def test_with_all_of_it_tensorflow_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "libraries", lambda: True)
    assert "TF_CPP_MIN_LOG_LEVEL=0 python -c 'import tensorflow" in (gpu.unused(machine(tmp_path, "580.95"), {}) or "")


def test_an_old_driver_is_named(tmp_path: Path) -> None:
    said = gpu.unused(machine(tmp_path, "470.57.02", CLOSED), {})
    assert said and said.startswith("its driver 470.57 is too old for CUDA 12: install 525.60 or later")


def test_a_container_without_its_gpus_is_called_so(tmp_path: Path) -> None:
    said = gpu.unused(machine(tmp_path, "580.95.05", device=False), {})
    assert said and said.startswith("/dev/nvidiactl is missing: start a container with its GPUs")


def test_wsl_has_the_driver_of_windows(tmp_path: Path) -> None:
    library = tmp_path / "usr/lib/wsl/lib/libcuda.so.1"
    library.parent.mkdir(parents=True)
    library.touch()
    assert "make setup GPU=1" in (gpu.unused(tmp_path, {}) or "")


def test_versions_of_drivers(tmp_path: Path) -> None:
    assert gpu.driver(tmp_path) is None
    assert gpu.driver(machine(tmp_path, "535.183.01", CLOSED)) == (535, 183)


@pytest.mark.keras
def test_the_driver_is_that_of_the_locked_tensorflow() -> None:
    from my_experiment.harness.training.quiet import tf

    assert tf.sysconfig.get_build_info()["cuda_version"].split(".")[0] == str(gpu.CUDA)
