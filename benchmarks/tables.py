"""Prepare and train on a large table, against pandas and Keras by hand: time and memory.

    python benchmarks/tables.py [ROWS]      1,000,000 rows without (`make bench`)

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


def measured(command: list[str], folder: Path) -> tuple[float, float, str]:
    """Runs a command: seconds, the most anonymous memory in MB, and what it printed."""
    environment = {**os.environ, "PYTHONPATH": "src", "PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1"}
    start, highest = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=told, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            status = Path("/proc", str(process.pid), "status").read_text()
            found = [int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")]
            highest = max(highest, *found, 0)
            time.sleep(0.02)  # between two looks: the kernel keeps no high-water mark of anonymous memory
        told.seek(0)
        text = told.read()
    if process.returncode:
        raise SystemExit(f"error: {' '.join(command[:3])} ended with {process.returncode}")
    return time.perf_counter() - start, highest / 1024, text


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


def main(rows: int) -> None:
    """Runs both sides and prints the ratios."""
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as temporary:
        command = ["cookiecutter", str(ROOT), "--no-input", "--output-dir", temporary, "task=tabular-classification"]
        subprocess.run(command, check=True, capture_output=True)
        folder = Path(temporary, "my-experiment")
        write_table(folder / "data/raw/table.csv", rows)
        package = "my_experiment"
        configure(folder)
        seconds, _, _ = measured([sys.executable, "-m", package, "schema"], folder)
        measured([sys.executable, "-m", f"{package}.stages.config"], folder)
        print(f"{rows:,} rows, {(folder / 'data/raw/table.csv').stat().st_size / 1e6:.0f} MB of CSV")
        print(f"inferring the schema, once: {seconds:.1f} s\n")
        print(f"{'':<10}{'seconds':>10}{'MB':>8}")
        sides = {}
        for name in ("prepare", "train"):
            sides[name] = measured([sys.executable, "-m", f"{package}.stages.{name}"], folder)[:2]
            print(f"{name:<10}{sides[name][0]:10.1f}{sides[name][1]:8.0f}", flush=True)
        *hand, told = measured([sys.executable, "-c", BY_HAND], folder)
        print(f"{'by hand':<10}{hand[0]:10.1f}{hand[1]:8.0f}   {told.strip().splitlines()[-1]}")
        spent, held = sum(side[0] for side in sides.values()), max(side[1] for side in sides.values())
        for name, ratio, goal in (("time", spent / hand[0], 1.0), ("memory", held / hand[1], 0.5)):
            print(f"{name}: {ratio:.2f} of by hand (goal: at most {goal}){'' if ratio <= goal else '  MISSED'}")


if __name__ == "__main__":
    (ROOT / "build").mkdir(exist_ok=True)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
