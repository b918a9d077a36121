"""Gradient boosting against the default network and the linear model, on tables of other people.

    uv pip install --target build/tables --no-deps statsmodels vega_datasets
    PYTHONPATH=build/tables python benchmarks/boosting.py [SEEDS]      5 splits without

The tables come with packages: scikit-learn, statsmodels, vega_datasets. Those of a package that is missing are left
out. Every model has its default settings and the same splits; the figures are means over the splits' test rows:
the negative log-likelihood of classes, the R^2 of numbers, and the seconds of fitting.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from sklearn import datasets

ROOT = Path(__file__).resolve().parent.parent
LINEAR = {"classification": "logistic_regression", "regression": "linear_regression"}

# Runs in a project: the pipeline's own functions, without evaluation, reports and runs.
COMPARE = """
import json, sys, time
from pathlib import Path
import numpy as np, yaml
from my_experiment.harness import contracts, preparation, prepared, targets
from my_experiment.harness.core import config
from my_experiment.harness.exported import inference
from my_experiment.harness.preparation import schema_inference
from my_experiment.harness.training import export
data, models, seeds = json.loads(sys.argv[1])
for seed in range(seeds):
    for model in models:
        sections = yaml.safe_load(config.compose(overrides=[*data, f"model={model}"]))
        source = config.instantiate(sections["data"])
        if not source.schema.exists():
            schema_inference.write(schema_inference.infer(source), source.schema)
        if model == models[0]:
            preparation.write(source, contracts.Splits(seed, 0.15, 0.15))
        manifest = prepared.manifest()
        inputs = prepared.modality(manifest).inputs(manifest, sections["features"])
        begun = time.perf_counter()
        fitted = config.instantiate(sections["train"], sections["model"], inputs, manifest)
        seconds = time.perf_counter() - begun
        content = export.serialize(fitted, inputs, targets.target(manifest).OUTPUT)
        outputs = inference.predict(content, prepared.modality(manifest).feeds("test")).astype(float)
        actual = prepared.targets("test")
        if "classes" in manifest:
            score = -np.log(outputs[np.arange(len(actual)), actual].clip(1e-15)).mean()
        else:
            score = 1 - ((outputs[:, 0] - actual) ** 2).sum() / ((actual - actual.mean()) ** 2).sum()
        rows, kinds = sum(manifest["examples"].values()), [column["type"] for column in manifest["columns"]]
        print(json.dumps({"model": model, "score": score, "seconds": seconds, "rows": rows,
                          "numbers": kinds.count("number"), "categories": kinds.count("category")}), flush=True)
"""


class Table(NamedTuple):
    """A table of a package.

    Attributes:
        target: The column to predict.
        problem: Whether the target holds classes or numbers.
        read: Returns the table.
        categories: Numeric columns that are categories.
    """

    target: str
    problem: str
    read: Callable[[], pd.DataFrame]
    categories: tuple[str, ...] = ()


def of_scikit_learn(name: str) -> pd.DataFrame:
    """A table of scikit-learn; its classes by name."""
    bunch = getattr(datasets, f"load_{name}")(as_frame=True, **({"scaled": False} if name == "diabetes" else {}))
    if "target_names" in bunch:
        return bunch.frame.assign(target=bunch.target_names[bunch.target])
    return bunch.frame


def file_of(package: str, path: str) -> Path:
    """A file of a package, which is not imported."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(package)
    return Path(found.submodule_search_locations[0], path)


def affairs() -> pd.DataFrame:
    """6,366 marriages: has there been an affair?"""
    table = pd.read_csv(file_of("statsmodels", "datasets/fair/fair.csv"))
    return table.assign(affairs=(table["affairs"] > 0).map({True: "yes", False: "no"}))


def votes() -> pd.DataFrame:
    """944 voters of 1996: Clinton or Dole?"""
    table = pd.read_csv(file_of("statsmodels", "datasets/anes96/anes96.csv"), sep="\t", quotechar="'")
    return table.assign(vote=table["vote"].map({0: "Clinton", 1: "Dole"}))


def weather() -> pd.DataFrame:
    """1,461 days in Seattle: did the sun shine?"""
    table = pd.read_csv(file_of("vega_datasets", "_data/seattle-weather.csv")).drop(columns="date")
    return table.assign(weather=table["weather"].where(table["weather"] == "sun", "no sun"))


def cars() -> pd.DataFrame:
    """398 cars with their consumption, year and origin."""
    table = pd.read_json(file_of("vega_datasets", "_data/cars.json"), convert_dates=False).drop(columns="Name")
    table["Year"] = table["Year"].str[:4].astype(int)
    return table[table["Miles_per_Gallon"].notna()]


def visits() -> pd.DataFrame:
    """20,190 insured people and their visits to a doctor in a year."""
    return pd.read_csv(file_of("statsmodels", "datasets/randhie/randhie.csv"))


TABLES = {
    "breast_cancer": Table("target", "classification", lambda: of_scikit_learn("breast_cancer")),
    "wine": Table("target", "classification", lambda: of_scikit_learn("wine")),
    "affairs": Table("affairs", "classification", affairs, ("occupation", "occupation_husb")),
    "votes": Table("vote", "classification", votes),
    "weather": Table("weather", "classification", weather),
    "diabetes": Table("target", "regression", lambda: of_scikit_learn("diabetes"), ("sex",)),
    "cars": Table("Miles_per_Gallon", "regression", cars),
    "visits": Table("mdvis", "regression", visits),
}


def compare(project: Path, name: str, seeds: int) -> Iterator[dict[str, Any]]:
    """Yields model, score and seconds of each model and split.

    Args:
        project: A project of the table's task; its data and schema are written.
        name: Key of `TABLES`.
        seeds: Number of splits.
    """
    table = TABLES[name]
    path = Path("data/raw", f"{name}.csv")
    table.read().to_csv(project / path, index=False)
    overrides = [
        "data=csv",
        f"data.path={path}",
        f"data.target={table.target}",
        f"data.categories=[{','.join(table.categories)}]",
        f"data.schema=schema/of-{name}.yaml",
    ]
    models = ["mlp", "gradient_boosting", LINEAR[table.problem]]
    command = [sys.executable, "-c", COMPARE, json.dumps([overrides, models, seeds])]
    environment = {**os.environ, "PYTHONPATH": "src", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: {name}: {done.stderr[-2000:]}")
    yield from map(json.loads, done.stdout.splitlines())


def main(seeds: int) -> None:
    """Compares the models on every table and prints a table in Markdown."""
    print("| table | rows | numbers | categories | measure | `mlp` | `gradient_boosting` | linear | seconds |")
    print("|---|---:|---:|---:|---|---:|---:|---:|---|")
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as temporary:
        for problem in LINEAR:
            task = f"task=tabular-{problem}"
            command = ["cookiecutter", str(ROOT), "--no-input", "--output-dir", f"{temporary}/{problem}", task]
            subprocess.run(command, check=True, capture_output=True)
        for name, table in TABLES.items():
            try:
                found = pd.DataFrame(compare(Path(temporary, table.problem, "my-experiment"), name, seeds))
            except ModuleNotFoundError as error:
                print(f"{name} is left out: {error} is not installed", file=sys.stderr)
                continue
            means = found.groupby("model", sort=False)[["score", "seconds"]].mean()
            best = means["score"].max() if table.problem == "regression" else means["score"].min()
            scores = " | ".join(f"**{s:.3f}**" if s == best else f"{s:.3f}" for s in means["score"])
            seconds = ", ".join(f"{s:.1f}" for s in means["seconds"])
            first, measure = found.iloc[0], "R^2" if table.problem == "regression" else "log loss"
            sizes = f"{first['rows']:,} | {first['numbers']} | {first['categories']}"
            print(f"| {name} | {sizes} | {measure} | {scores} | {seconds} |", flush=True)


if __name__ == "__main__":
    (ROOT / "build").mkdir(exist_ok=True)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
