"""Batch prediction and the SavedModel of real projects, as the README tells: killed, resumed, measured, compared."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import VENV, BakedProject
from PIL import Image
from processes import running
from pyarrow import csv, parquet
from test_memory import MB, peak, shown, with_table
from test_service import png, serving

pytestmark = pytest.mark.pipeline

Copy = Callable[[BakedProject], BakedProject]
SRC = {"PYTHONPATH": "src"}
PICTURES = 3_000  # three parts
FEW, MANY = 250_000, 750_000  # rows; both are several parts
MODEL = """
import sys
import numpy as np
from my_experiment.harness.exported import inference
images = np.load("data/prepared/test/images.npy").astype("float32")
feeds = ({"image": images[start : start + 100]} for start in range(0, len(images), 100))
np.save(sys.argv[1], inference.predict("models/model.onnx", feeds))
"""


def kill_when(project: BakedProject, condition: Callable[[], bool], *arguments: str) -> None:
    """Starts a batch prediction and kills it with -9 once the condition holds."""
    with running(
        VENV / "bin/python", "-m", "my_experiment", "predict", *arguments,
        cwd=project.path, env={**os.environ, **SRC}, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        deadline = time.monotonic() + 120
        while not condition():
            assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
            time.sleep(0.002)  # between two looks at the condition
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def test_pictures_killed_and_resumed_as_the_pipeline_and_the_service_answer(
    quick_project: BakedProject, copy: Copy, tmp_path: Path
) -> None:
    project = copy(quick_project)
    images = np.load(project.path / "data/prepared/test/images.npy")
    pictures = tmp_path / "pictures"
    for number in range(PICTURES):
        path = pictures / f"{number // 1000}" / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(images[number % len(images)][..., 0]))
    (pictures / "readme.txt").write_text("no picture")
    photo = io.BytesIO()
    Image.new("RGB", (640, 480), (200, 30, 90)).save(photo, "JPEG")
    (pictures / "photo.jpg").write_bytes(photo.getvalue())
    output, parts = tmp_path / "out.csv", tmp_path / "out.csv.parts"
    kill_when(project, (parts / "000000.parquet").exists, str(pictures), str(output))
    assert not output.exists()
    command = ["python", "-m", "my_experiment", "predict", str(pictures)]
    done = project.run(*command, str(output), env=SRC, check=False)
    assert done.returncode == 3 and "continuing after" in done.stderr, done.stderr
    assert f"{PICTURES + 1:,} predictions of {PICTURES + 2:,}" in done.stdout
    assert not parts.exists()
    # What was never stopped is the same, byte for byte.
    project.run(*command, str(tmp_path / "whole.csv"), env=SRC, check=False)
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    text = csv.ConvertOptions(column_types={"label": pa.string()})  # "4" is a name
    found = {row["path"]: row for row in csv.read_csv(output, convert_options=text).to_pylist()}
    errors = {path: row["error"] for path, row in found.items() if row["error"]}
    assert errors == {"readme.txt": "not a readable PNG, JPEG, BMP, GIF or WebP image"}
    project.run("python", "-c", MODEL, str(tmp_path / "expected.npy"), env=SRC)
    expected = np.load(tmp_path / "expected.npy")
    names = [f"probabilities.{name}" for name in json.loads(project.read("models/model.json"))["classes"]]
    digits = {int(path[-9:-4]): [row[name] for name in names] for path, row in found.items() if path[-4:] == ".png"}
    assert len(digits) == PICTURES
    np.testing.assert_allclose(
        [*digits.values()], expected[[number % len(images) for number in digits]], rtol=0, atol=1e-6
    )
    with serving(project.path, tmp_path / "serve", "python", "-m", "my_experiment", "serve") as client:
        for name in ("photo.jpg", "0/00000.png", "2/02999.png"):
            said = client.post("/predict_file", files={"file": (pictures / name).read_bytes()}).json()
            row, (answer,) = found[name], said["predictions"]
            assert (row["label"], row["model_version"]) == (answer["label"], said["model_version"])
            probabilities = [*answer["probabilities"].values()]
            np.testing.assert_allclose([row[key] for key in names], probabilities, rtol=0, atol=1e-6)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_a_table_in_bounded_memory_as_the_service_answers(
    bake: Callable[..., BakedProject], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = with_table(bake(task="tabular-regression"), 5_000)
    for stage in ("prepare", "train"):
        project.run("python", "-m", f"my_experiment.stages.{stage}", env=SRC)
    lines = (project.path / "data/raw/table.csv").read_text().splitlines()
    files = {}
    for rows in (FEW, MANY):
        files[rows] = tmp_path / f"{rows}.csv"
        files[rows].write_text("\n".join([lines[0], *lines[1:] * (rows // 5_000)]) + "\n")
    peaks = [
        peak(project, "__main__", "predict", str(file), str(tmp_path / f"{rows}.parquet"))
        for rows, file in files.items()
    ]
    shown({"predict": peaks}, FEW, MANY, "rows", capsys)
    assert peaks[1] - peaks[0] < 16 * 8 * (MANY - FEW) / MB / 2  # half of the numbers alone
    found = parquet.read_table(tmp_path / f"{MANY}.parquet").to_pydict()
    assert found["row"] == [*range(1, MANY + 1)]
    with serving(project.path, tmp_path / "serve", "python", "-m", "my_experiment", "serve") as client:
        said = client.post("/predict_file", files={"file": "\n".join(lines[:2_001]).encode()}).json()
    for key in ("value", "low", "high"):
        expected = [prediction[key] for prediction in said["predictions"]]
        np.testing.assert_allclose(found[key][:2_000], expected, rtol=1e-6, atol=1e-6)
    assert {*found["model_version"]} == {said["model_version"]}


def test_make_savedmodel(quick_project: BakedProject, copy: Copy, tmp_path: Path) -> None:
    project = copy(quick_project)
    done = project.run("make", "savedmodel")
    assert done.stderr == ""
    (place,) = (project.path / "models/serving/my_experiment").iterdir()
    assert place.name == project.run("git", "log", "-1", "--format=%ct").stdout.strip()
    assert [line.split(":")[0] for line in done.stdout.splitlines()[-3:-1]] == ["serving_default", "classify"]
    assert 'base_path: "/models/my_experiment"' in project.read("models/serving/models.config")
    assert (place / "assets.extra/tf_serving_warmup_requests").stat().st_size
    assert sorted(path.name for path in (project.path / "models/serving").iterdir()) == [
        "models.config",
        "my_experiment",
    ]
    assert project.git_status() == ""
    # Once more: the version is there, and nothing is written.
    before = place.stat().st_mtime_ns
    project.run(sys.executable, "-m", "my_experiment", "savedmodel", env=SRC)
    assert place.stat().st_mtime_ns == before
    # A model that no commit has is given no version.
    project.run("git", "reset", "--quiet", "--hard", "HEAD~1")
    refused = project.run(sys.executable, "-m", "my_experiment", "savedmodel", env=SRC, check=False)
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert line.startswith("error: ") and "commit dvc.lock" in line
