"""Prepare and train on a large table, against pandas and Keras by hand: time and memory.

    python benchmarks/tables.py [ROWS [TURNS]]      without: 1,000,000 rows, twice (`make bench`)

Both sides read the same CSV file (15 numbers, 4 categories, some values missing, two classes), split it, standardise
and one-hot encode it with statistics of the training rows, fit the same network for as many epochs and export it to
ONNX. Ours are the stages `prepare` and `train`, two processes that check every row against a schema and give the same
bytes each time; by hand is one process that holds everything in memory and does neither. Memory is the most anonymous
memory (RssAnon) at any moment: pages of mapped files are page cache, which the kernel drops when it needs the room.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
EPOCHS, BATCH, UNITS = 3, 1024, [256, 128]

BY_HAND = f"""
import sys
import numpy as np, pandas as pd
table = pd.read_csv("data/raw/table.csv")
y = (table.pop("answer") == "yes").to_numpy().astype("int64")
part = np.random.default_rng(0).choice(3, len(table), p=[0.7, 0.15, 0.15])
numbers = table.select_dtypes("number").columns
mean, deviation = table.loc[part == 0, numbers].mean(), table.loc[part == 0, numbers].std()
table[numbers] = ((table[numbers] - mean) / deviation).fillna(0)
x = pd.get_dummies(table, dtype="float32", dummy_na=True).to_numpy("float32")
import keras
keras.utils.set_random_seed(0)
entry = keras.Input((x.shape[1],))
h = entry
for width in {UNITS}:
    h = keras.layers.Dropout(0.3)(keras.layers.Dense(width, activation="relu")(h))
model = keras.Model(entry, keras.layers.Dense(2, activation="softmax")(h))
model.compile(keras.optimizers.Adam(0.001), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x[part == 0], y[part == 0], batch_size={BATCH}, epochs={EPOCHS}, verbose=0,
          validation_data=(x[part == 1], y[part == 1]))
model.export("by-hand.onnx", format="onnx", verbose=False)
print("accuracy", model.evaluate(x[part == 2], y[part == 2], batch_size=4096, verbose=0)[1])
"""


def write_table(path: Path, rows: int) -> None:
    """Writes a table of which 4 numbers and a category say something about the answer."""
    generator = np.random.default_rng(0)
    table = pd.DataFrame(generator.normal(50, 10, (rows, 15)).round(4), columns=[f"n{i}" for i in range(15)])
    levels = {f"c{i}": np.array([f"level {j}" for j in range(5 * (i + 1))]) for i in range(4)}
    codes = {name: generator.integers(0, len(names), rows) for name, names in levels.items()}
    score = (table["n0"] - table["n1"] + table["n2"] * table["n3"] / 50) / 10 - 5 + codes["c0"] - 2
    for name, names in levels.items():
        table[name] = names[codes[name]]
    for column in ("n4", "n5", "c3"):
        table.loc[generator.random(rows) < 0.05, column] = None
    table["answer"] = np.where(score + generator.normal(size=rows) > 0, "yes", "no")
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)


class Measured(NamedTuple):
    """What a command took.

    Attributes:
        seconds: By the clock.
        cpu: Seconds of all cores, of the command and what it started: other work on the machine changes them less.
        memory: The most anonymous memory, in MB.
        told: What it printed.
    """

    seconds: float
    cpu: float
    memory: float
    told: str


def measured(command: list[str], folder: Path) -> Measured:
    """Runs a command and measures it."""
    environment = {**os.environ, "PYTHONPATH": "src", "PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1"}
    start, highest = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=told, stderr=subprocess.DEVNULL)
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            text = Path("/proc", str(process.pid), "status").read_text()
            found = [int(line.split()[1]) for line in text.splitlines() if line.startswith("RssAnon")]
            highest = max(highest, *found, 0)
            time.sleep(0.02)  # between two looks: the kernel keeps no high-water mark of anonymous memory
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0)
        text = told.read()
    if process.returncode:
        raise SystemExit(f"error: {' '.join(command[:3])} ended with {process.returncode}: {text[-3000:]}")
    return Measured(seconds, usage.ru_utime + usage.ru_stime, highest / 1024, text)


def configure(project: Path) -> None:
    """Chooses the table, and the network and epochs of `BY_HAND`."""
    for file, key, value in (
        ("config.yaml", "  - data", "csv"),
        ("data/csv.yaml", "target", "answer"),
        ("model/mlp.yaml", "units", str(UNITS)),
        ("model/mlp.yaml", "dropout", "0.3"),
        ("train/default.yaml", "epochs", str(EPOCHS)),
        ("train/default.yaml", "batch_size", str(BATCH)),
    ):
        path = project / "conf" / file
        text, changes = re.subn(rf"^{key}: .*", f"{key}: {value}", path.read_text(), flags=re.M)
        if changes != 1:
            raise SystemExit(f"error: {path}: one line with `{key}:` is expected, there are {changes}")
        path.write_text(text)


def main(rows: int, turns: int) -> None:
    """Runs both sides and prints the ratios."""
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as temporary:
        command = ["cookiecutter", str(ROOT), "--no-input", "--output-dir", temporary, "task=tabular-classification"]
        subprocess.run(command, check=True, capture_output=True)
        folder = Path(temporary, "my-experiment")
        write_table(folder / "data/raw/table.csv", rows)
        package = "my_experiment"
        configure(folder)
        schema = measured([sys.executable, "-m", package, "schema"], folder)
        measured([sys.executable, "-m", f"{package}.stages.config"], folder)
        print(f"{rows:,} rows, {(folder / 'data/raw/table.csv').stat().st_size / 1e6:.0f} MB of CSV, {turns} turns")
        print(f"inferring the schema, once: {schema.seconds:.1f} s\n")
        commands = {name: ["-m", f"{package}.stages.{name}"] for name in ("prepare", "train")} | {
            "by hand": ["-c", BY_HAND]
        }
        turned = [
            {name: measured([sys.executable, *command], folder) for name, command in commands.items()}
            for _ in range(turns)
        ]
        print(f"{'':<10}{'seconds':>10}{'CPU s':>10}{'MB':>8}")
        sides = {name: [median(turn[name][figure] for turn in turned) for figure in range(3)] for name in commands}
        for name, (seconds, cpu, memory) in sides.items():
            print(f"{name:<10}{seconds:10.1f}{cpu:10.1f}{memory:8.0f}")
        print(f"by hand: {turned[-1]['by hand'].told.strip().splitlines()[-1]}")
        ours, hand = [sides["prepare"], sides["train"]], sides["by hand"]
        ratios = {
            "time": ((ours[0][0] + ours[1][0]) / hand[0], 0.9),
            "CPU": ((ours[0][1] + ours[1][1]) / hand[1], 0.9),
            "memory": (max(ours[0][2], ours[1][2]) / hand[2], 0.3),
        }
        for name, (ratio, goal) in ratios.items():
            print(f"{name}: {ratio:.2f} of by hand (goal: at most {goal}){'' if ratio <= goal else '  MISSED'}")


if __name__ == "__main__":
    (ROOT / "build").mkdir(exist_ok=True)
    given = [int(argument) for argument in sys.argv[1:]]
    main(*given, *(1_000_000, 2)[len(given) :])
