"""The report of a sweep: ranking, tables, pictures, from studies as workers leave them."""

import csv
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from my_experiment.harness.sweep import plots, report, trials
from my_experiment.harness.sweep.plots import importances, seeds
from PIL import Image

CNN, MLP = "model=cnn: model.dropout", "model=mlp: model.dropout"


def new_study(directions: str = "maximize", name: str = "digits") -> Any:
    """An empty study of `val_accuracy`, and of `latency` where it has a second direction."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names: list[Any] = directions.split()
    study = optuna.create_study(study_name=name, directions=names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(["val_accuracy", "latency"][: len(names)])
    return study


def add(
    study: Any, values: float | list[float] | None, params: dict[str, Any] | None = None, **attributes: Any
) -> None:
    """Adds a trial: complete where it has values, else failed, or in the state given."""
    trial = optuna.trial
    kinds: dict[type, Callable[[str], Any]] = {
        float: lambda name: optuna.distributions.FloatDistribution(1e-6, 1, log="rate" in name),
        int: lambda name: optuna.distributions.IntDistribution(1, 256),
        str: lambda name: optuna.distributions.CategoricalDistribution(("cnn", "mlp", "[64, 32]", "$x$")),
    }
    history = [{"loss": 1 / (epoch + 1), "val_accuracy": epoch / 20} for epoch in range(attributes.pop("epochs", 3))]
    state = attributes.pop("state", trial.TrialState.FAIL if values is None else trial.TrialState.COMPLETE)
    params = params or {}
    study.add_trial(
        trial.create_trial(
            state=state,
            values=[values] if isinstance(values, float) else values,
            params=params,
            distributions={name: kinds[type(value)](name) for name, value in params.items()},
            user_attrs={"history": history, "seconds": 1.5, **attributes},
        )
    )


def searched(trials: int, directions: str = "maximize") -> Any:
    """A study with conditional parameters, pruned and failed trials; only the learning rate matters."""
    study, random = new_study(directions), np.random.default_rng(0)
    for number in range(trials):
        rate, model = float(10 ** random.uniform(-5, -1)), ("cnn", "mlp")[number % 2]
        params = {"train.learning_rate": rate, "model": model, "train.batch_size": int(random.integers(1, 256))}
        params[CNN if model == "cnn" else MLP] = float(random.uniform(0.1, 0.6))
        score = math.exp(-((math.log10(rate) + 3) ** 2))
        if number % 7 == 5:
            add(study, None, params, error="out of memory", epochs=1)
        elif number % 7 == 6:
            add(study, None, params, state=optuna.trial.TrialState.PRUNED, epochs=2)
        else:
            add(study, [score, 1000 * rate][: len(directions.split())], params, scores={"val_loss": 1 - score})
    return study


@pytest.mark.parametrize(("direction", "best"), [("maximize", [2, 0, 1]), ("minimize", [1, 0, 2])])
def test_the_best_trial_comes_first(direction: str, best: list[int]) -> None:
    study = new_study(direction)
    for score in (0.5, 0.1, 0.9):
        add(study, score)
    add(study, None)
    assert [trial.number for trial in trials.best(study)] == best


def test_with_two_objectives_the_pareto_front_is_ranked() -> None:
    study = new_study("maximize minimize")
    for values in ([0.5, 1.0], [0.9, 5.0], [0.5, 2.0], [0.8, 5.0], [0.95, 9.0]):
        add(study, values)
    assert [trial.number for trial in trials.best(study)] == [4, 1, 0]
    assert {trial.number for trial in study.best_trials} == {4, 1, 0}


def test_the_table_has_the_parameters_that_vary() -> None:
    study = new_study()
    add(study, 0.5, {"train.learning_rate": 0.001, "train.epochs": 7, "model": "cnn", CNN: 0.25})
    add(study, 0.75, {"train.learning_rate": 0.02, "train.epochs": 7, "model": "mlp"}, epochs=12)
    add(study, 0.25, {"train.learning_rate": 0.02, "train.epochs": 7, "model": "mlp", MLP: 0.125})
    assert report.table(study, 2).splitlines() == [
        "rank  trial  val_accuracy  learning_rate  model  dropout  epochs  seconds",
        "   1      1          0.75           0.02  mlp          -      12      1.5",
        "   2      0           0.5          0.001  cnn       0.25       3      1.5",
    ]


def test_the_summary_counts_lost_trials_separately() -> None:
    study = new_study()
    assert report.summary(study) == "0 trials: 0 complete, 0 pruned, 0 failed"
    add(study, 0.5)
    add(study, None, error="out of memory")
    add(study, None)
    study.ask()
    assert report.summary(study) == "4 trials: 1 complete, 0 pruned, 1 failed, 1 lost, 1 running"


def test_all_trials_are_written(tmp_path: Path) -> None:
    study = new_study()
    add(study, 0.5, {"model": "cnn", CNN: 0.25}, seed=3, scores={"val_accuracy": 0.5, "val_loss": 1.5})
    add(study, None, {"model": "mlp", MLP: 0.125}, error='a line, with "quotes"')
    report.write_csv(study, tmp_path / "trials.csv")
    with (tmp_path / "trials.csv").open(encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert first == {
        "number": "0", "state": "complete", "val_accuracy": "0.5", "val_loss": "1.5", "model": "cnn",
        "model.dropout": "0.25", "repeat_of": "", "seed": "3", "epochs": "3", "seconds": "1.5", "error": "",
    }  # fmt: skip
    assert (second["state"], second["val_accuracy"]) == ("failed", "")
    assert (second["model.dropout"], second["error"]) == ("0.125", 'a line, with "quotes"')


def test_repeated_trials_are_ranked_by_their_mean() -> None:
    repeats = new_study(name="digits-seeds")
    for seed, score in enumerate((0.8, 0.9, 1.0)):
        add(repeats, score, repeat_of=4, seed=seed)
    for seed, score in enumerate((0.95, 0.93)):
        add(repeats, score, repeat_of=7, seed=seed)
    add(repeats, 0.99, repeat_of=2, seed=0)
    add(repeats, None, repeat_of=2, seed=1, error="out of memory")
    add(repeats, None, repeat_of=9, seed=0)
    first, second, third, last = trials.rank(new_study(), repeats)
    assert [entry.number for entry in (first, second, third, last)] == [7, 4, 2, 9]
    # t(0.975, 2) = 4.303 (Student's table); s = 0.1, n = 3
    assert (second.mean, second.low, second.high) == pytest.approx((0.9, 0.9 - 0.2484, 0.9 + 0.2484), abs=1e-4)
    assert second.scores == (0.8, 0.9, 1.0)
    assert (third.failed, third.scores, math.isnan(third.low)) == (1, (0.99,), True)
    assert (last.failed, last.scores, math.isnan(last.mean)) == (1, (), True)


def test_a_requeued_repetition_has_not_failed() -> None:
    repeats = new_study("minimize")
    add(repeats, None, repeat_of=1, plan_key=0)
    add(repeats, 0.25, repeat_of=3, plan_key=1)
    add(repeats, 0.75, repeat_of=3, plan_key=2)
    add(repeats, 0.5, repeat_of=1, plan_key=0)
    assert [(entry.number, entry.failed, entry.scores) for entry in trials.rank(new_study(), repeats)] == [
        (1, 0, (0.5,)),
        (3, 0, (0.25, 0.75)),
    ]


def test_winners_and_their_comments() -> None:
    study, repeats = new_study(), new_study(name="digits-seeds")
    assert trials.winners(study) == []
    add(study, 0.75)
    add(study, 0.5)
    assert [trial.number for trial in trials.winners(study, repeats)] == [0]
    assert report.comment(study, None, study.trials[0]) == "Trial 0 of 2: val_accuracy 0.75"
    for number, score in ((0, 0.25), (1, 0.5), (1, 0.5)):
        add(repeats, score, repeat_of=number)
    (winner,) = trials.winners(study, repeats)
    assert report.comment(study, repeats, winner) == (
        "Trial 1 of 2: val_accuracy 0.5; over 2 seeds val_accuracy 0.5, 95 % interval 0.5 to 0.5"
    )
    front = new_study("maximize minimize")
    for values in ([0.5, 1.0], [0.75, 2.0], [0.5, 3.0]):
        add(front, values)
    assert [trial.number for trial in trials.winners(front)] == [1, 0]


def test_the_table_of_seeds_has_the_mean_and_the_score_in_the_search() -> None:
    study, repeats = new_study(), new_study(name="digits-seeds")
    add(study, 0.5, {"train.learning_rate": 0.001})
    add(study, 0.75, {"train.learning_rate": 0.02})
    assert report.seeds_table(study, repeats) == "no repetition is finished"
    for seed, score in enumerate((0.5, 0.5, 0.5)):
        add(repeats, score, repeat_of=1, seed=seed)
    assert report.seeds_table(study, repeats).splitlines() == [
        "rank  trial  mean val_accuracy  95 % interval  seeds  failed  in the search  learning_rate",
        "   1      1                0.5  0.5 to 0.5         3       0           0.75           0.02",
    ]


@pytest.mark.parametrize(
    ("trials", "enough", "directions"),
    [(0, 0, "maximize"), (0, 0, "maximize minimize"), (1, 2, "maximize minimize"), (3, 4, "maximize"),
     (40, 5, "maximize minimize")],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_pictures_are_drawn_if_there_are_enough_trials(
    tmp_path: Path, trials: int, enough: int, directions: str
) -> None:
    drawn = plots.draw(searched(trials, directions), tmp_path)
    assert len([path for path in drawn if path.name != "pareto_front.png"]) == enough
    assert (tmp_path / "pareto_front.png" in drawn) == (trials > 0 and directions == "maximize minimize")
    for path in drawn:
        with Image.open(path) as picture:
            assert len(picture.getcolors(maxcolors=1 << 24) or ()) > 5


@pytest.mark.filterwarnings("error")
def test_odd_studies_are_drawn(tmp_path: Path) -> None:
    study = new_study("minimize")
    for number in range(12):  # one parameter, all scores alike; names that are no formula, values that are no curve
        add(study, 0.5, {"model": ("$x$", "[64, 32]")[number % 2]}, history=[{"val_accuracy": math.nan}])
    names = [path.name for path in plots.draw(study, tmp_path)]
    assert names == ["history.png", "parallel_coordinates.png", "slices.png"]
    add(study, 1e12, {"model": "cnn"})
    assert "history.png" in [path.name for path in plots.draw(study, tmp_path)]


def test_the_same_trials_give_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        repeats = new_study(name="digits-seeds")
        add(repeats, 0.5, repeat_of=0)
        report.write(searched(12), repeats, tmp_path / name)
    first, second = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("a", "b"))
    assert first == second
    assert {"history.png", "seeds.png", "trials.csv", "seeds.csv"} < set(first)


@pytest.mark.parametrize("directions", ["maximize", "minimize maximize"])
def test_the_parameter_that_matters_is_the_most_important(directions: str) -> None:
    shares = importances.shares(searched(60, directions))
    assert next(iter(shares)) == "train.learning_rate"
    assert np.sum(list(shares.values()), axis=0) == pytest.approx(1)
    assert CNN in shares


@pytest.mark.filterwarnings("error")
def test_seeds_are_drawn(tmp_path: Path) -> None:
    study, repeats = new_study(), new_study(name="digits-seeds")
    path = tmp_path / "seeds.png"
    assert not seeds.draw(study, repeats, path)
    add(study, 0.75)
    add(repeats, 0.5, repeat_of=0, seed=0)
    assert seeds.draw(study, repeats, path)
    for seed in range(1, 5):
        add(repeats, 0.5 + seed / 100, repeat_of=0, seed=seed)
    add(repeats, None, repeat_of=1, seed=0)
    assert seeds.draw(study, repeats, path)
