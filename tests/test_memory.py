"""Peak memory of `prepare` and `train` does not grow with the number of images, or of rows.

The stages run as `dvc repro` runs them, a process each, on few and on many examples.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from conftest import VENV, BakedProject, edit
from pyarrow import csv

SIDE = 64
BYTES = SIDE * SIDE * 3  # of a picture, prepared
FEW, MANY = 1_000, 20_000
MB = 1_000_000
DATA_GROWTH = (MANY - FEW) * BYTES / MB  # 233 MB
# What may grow is what is kept of a picture besides its pixels (path, digest, label), about 1 kB each: 20 MB.
# A uint8 copy of the training split alone would be 163 MB, a float32 one 650 MB.
ALLOWED_GROWTH = 80.0  # half of the smallest copy; seen: 12 (prepare) and 23 to 30 (train), of which 20 are explained

pytestmark = pytest.mark.pipeline


def write_pictures(folder: Path, count: int) -> None:
    """Writes BMP files of noise: one header, then a window of one random buffer that moves by a byte.

    All of them differ, so that none is a duplicate, and 20,000 take seconds: nothing is encoded.
    """
    header = (
        b"BM"
        + (54 + BYTES).to_bytes(4, "little")
        + bytes(4)
        + (54).to_bytes(4, "little")
        + (40).to_bytes(4, "little")
        + SIDE.to_bytes(4, "little") * 2
        + (1).to_bytes(2, "little")
        + (24).to_bytes(2, "little")
        + bytes(24)
    )
    noise = os.urandom(BYTES + count)
    for label in "ab":
        (folder / label).mkdir(parents=True)
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number:05}.bmp"
        path.write_bytes(header + noise[number : number + BYTES])


def with_pictures(project: BakedProject, count: int) -> BakedProject:
    """Gives a project a folder of pictures and the parameters to train a tiny model on it.

    params.yaml is written here, not composed: the stage `config` is not what is measured. Large batches and a
    model with next to no weights keep the training short; both are the same for few and many.
    """
    package = next((project.path / "src").iterdir()).name
    params = {
        "data": {
            "_target_": f"{package}.data.images.image_folder",
            "path": "data/raw/images",
            "image_size": [SIDE, SIDE],
            "channels": 3,
            "max_pixels": SIDE * SIDE,
            "on_invalid": "stop",
        },
        "prepare": {"seed": 0, "validation": 0.15, "test": 0.15},
        "augmentation": yaml.safe_load((project.path / "conf/augmentation/none.yaml").read_text()),
        "model": {"_target_": f"{package}.models.mlp.mlp", "units": [2], "dropout": 0.0},
        "train": {
            "_target_": f"{package}.harness.training.fit.gradient_descent",
            "seed": 0,
            "epochs": 1,
            "batch_size": 256,
            "learning_rate": 0.001,
            "monitor": "val_loss",
            "patience": 1,
            "class_weights": "balanced",
        },
    }
    (project.path / "params.yaml").write_text(yaml.safe_dump(params))
    write_pictures(project.path / "data/raw/images", count)
    return project


def peak(project: BakedProject, module: str, *arguments: str) -> float:
    """Runs a module of the package and returns the most anonymous memory that it held, in MB.

    Anonymous memory is what the process has allocated. `ru_maxrss` and `VmHWM` would count the pages of
    mapped files as well: these are page cache, which the kernel drops when it needs the room, so they follow
    the machine's free memory and not the program. The kernel keeps no high-water mark of RssAnon, hence the
    sampling, every 10 ms: filling the 233 MB that are looked for takes longer than that.
    """
    package = next((project.path / "src").iterdir()).name
    highest = 0
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(
            [VENV / "bin" / "python", "-m", f"{package}.{module}", *arguments],
            cwd=project.path,
            # As dvc.yaml runs it.
            env={**os.environ, "PYTHONPATH": "src", "PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1"},
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=told,
        )
        try:
            while process.poll() is None:
                status = Path("/proc", str(process.pid), "status").read_text()
                # A process that has ended and is not yet waited for has no memory left to list.
                found = [int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")]
                highest = max(highest, *found, 0)
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()
        told.seek(0)
        assert process.returncode == 0, told.read()[-4000:]
    return highest * 1024 / MB


def with_table(project: BakedProject, rows: int) -> BakedProject:
    """Gives a project a CSV file of 16 numbers and 2 categories, its schema, and the parameters of a linear model."""
    generator = np.random.default_rng(0)
    numbers = {f"x{i}": generator.normal(size=rows).round(3) for i in range(16)}
    levels = {name: pa.array(list("abcdefgh")).take(pa.array(generator.integers(0, 8, rows))) for name in ("c", "d")}
    noise = generator.normal(size=rows)
    table = pa.table({**numbers, **levels, "y": (numbers["x0"] - 2 * numbers["x1"] + noise).round(3)})
    csv.write_csv(table, project.path / "data/raw/table.csv")
    for file, old, new in (
        ("conf/config.yaml", "data: diabetes", "data: csv"),
        ("conf/config.yaml", "model: mlp", "model: linear_regression"),
        ("conf/data/csv.yaml", "target: ???", "target: y"),
    ):
        edit(project, file, old, new)
    project.run("python", "-m", "my_experiment", "schema", env={"PYTHONPATH": "src"})
    project.run("python", "-m", "my_experiment.stages.config", env={"PYTHONPATH": "src"})
    return project


def shown(peaks: dict[str, list[float]], few: int, many: int, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Prints the peaks, for people who read the output of the tests."""
    with capsys.disabled():
        print(f"\npeak anonymous memory, MB  {few:>9,}  {many:>9,} {what}")
        for stage, (less, more) in peaks.items():
            print(f"{stage:<25}  {less:9.1f}  {more:9.1f}  {more - less:+.1f}")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_memory_does_not_grow_with_the_number_of_images(
    default_project: BakedProject,
    copy: Callable[[BakedProject], BakedProject],
    capsys: pytest.CaptureFixture[str],
) -> None:
    projects = [with_pictures(copy(default_project), count) for count in (FEW, MANY)]
    peaks = {}
    for stage in ("prepare", "train"):
        # Side by side: half of the time is the import of TensorFlow, and memory does not depend on the speed.
        with ThreadPoolExecutor() as pool:
            peaks[stage] = list(pool.map(peak, projects, [f"stages.{stage}"] * 2))
    shown(peaks, FEW, MANY, f"images (data: +{DATA_GROWTH:.0f} MB)", capsys)
    for stage, (few, many) in peaks.items():
        assert many - few < ALLOWED_GROWTH, f"{stage}: {few:.0f} MB with {FEW} images, {many:.0f} MB with {MANY}"


# Both are enough to fill what Arrow reads ahead, some 50 MB at most (seen: 146 MB with 200,000 rows in `prepare`, then
# 168 to 200, 205 with 3,000,000).
FEW_ROWS, MANY_ROWS = 400_000, 1_200_000
COLUMN = 8 * (MANY_ROWS - FEW_ROWS) / MB  # the least that a copy of one column takes


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_memory_does_not_grow_with_the_number_of_rows(
    bake: Callable[..., BakedProject], copy: Callable[[BakedProject], BakedProject], capsys: pytest.CaptureFixture[str]
) -> None:
    project = bake(task="tabular-regression")
    projects = [with_table(copy(project), rows) for rows in (FEW_ROWS, MANY_ROWS)]
    peaks = {stage: [peak(project, f"stages.{stage}") for project in projects] for stage in ("prepare", "train")}
    shown(peaks, FEW_ROWS, MANY_ROWS, f"rows (16 numbers: +{16 * COLUMN:.0f} MB)", capsys)
    for stage, (few, many) in peaks.items():
        assert many - few < 16 * COLUMN / 2, f"{stage}: {few:.0f} MB, {many:.0f} MB with {MANY_ROWS:,} rows"
