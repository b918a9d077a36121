"""The search space: Hydra's notation, as distributions of Optuna."""

from typing import Any

import pytest
import yaml
from my_experiment.harness.core import config
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.sweep import space
from my_experiment.harness.sweep.settings import Sweep
from support import ROOT

OPTIONS = [
    f"{group}={file.stem}" for group in ("sweep", "launcher") for file in sorted(ROOT.glob(f"conf/{group}/*.yaml"))
]
pytestmark = pytest.mark.usefixtures("workspace")


@pytest.mark.parametrize("option", OPTIONS)
def test_shipped_options_are_valid(option: str) -> None:
    sections = yaml.safe_load(config.compose(name="sweep", overrides=[option]))
    config.check({key: sections[key] for key in ("sweep", "launcher")}, {"sweep": Sweep}, {"launcher"})
    texts = space.resolve(sections["sweep"]["space"], space.divide([]))
    assert bool(texts) == (option.partition("=")[0] == "sweep" and option != "sweep=grid")


@pytest.mark.parametrize("model", sorted(file.stem for file in ROOT.glob("conf/model/*.yaml")))
def test_the_shipped_space_has_only_keys_of_the_model(model: str) -> None:
    chosen = [f"model={model}"]
    texts = yaml.safe_load(config.compose(name="sweep", overrides=["sweep=tpe", *chosen]))["sweep"]["space"]
    searched = space.resolve(texts, space.divide(chosen)).get("always", {})
    assert set(searched) <= set(config.flatten(yaml.safe_load(config.compose(overrides=chosen))))


def test_hydras_notation_becomes_distributions() -> None:
    values: Any = space.distributions(
        {
            "always": {
                "a": "tag(log, interval(0.001, 0.1))",
                "b": "int(interval(2, 8))",
                "c": "16,32",
                "d": "choice([1,2], [3])",
                "e": "range(8, 33, 8)",
            }
        }
    )["always"]
    assert (values["a"].low, values["a"].high, values["a"].log) == (0.001, 0.1, True)
    assert type(values["b"]).__name__ == "IntDistribution" and (values["b"].low, values["b"].high) == (2, 8)
    assert values["c"].choices == (16, 32)
    assert values["d"].choices == ("[1,2]", "[3]")
    assert (values["e"].low, values["e"].high, values["e"].step) == (8, 32, 8)


def test_a_condition_holds_if_its_choice_is_made() -> None:
    import optuna

    texts = {"always": {"model": "choice(a, b)"}, "model=a": {"model.x": "1,9"}, "model=b": {"model.y": "1,2"}}
    searched = space.distributions(space.resolve(texts, space.divide([])))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    pairs = set()
    for _ in range(12):
        model, other = space.suggest(study.ask(), searched, {"model": "a"})
        pairs.add((model, other.split("=")[0]))
    assert pairs == {("model=a", "model.x"), ("model=b", "model.y")}


def test_only_numbers_from_intervals_are_rounded() -> None:
    import optuna

    searched = space.distributions({"always": {"a": "0.00012345,0.00012346", "b": "tag(log, interval(1e-6, 1e-5))"}})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    suggested = [space.suggest(study.ask(), searched, {}) for _ in range(9)]
    assert {a for a, _ in suggested} == {"a=0.00012345", "a=0.00012346"}
    assert all(len(b.removeprefix("b=").split("e")[0].replace(".", "")) <= 4 for _, b in suggested)


def test_the_command_line_overrides_the_space() -> None:
    texts = {
        "always": {"model": "choice(a, b)", "train.batch_size": "16,32"},
        "model=a": {"model.x": "1,2"},
        "model=b": {"model.y": "1,2"},
    }
    overrides = space.divide(["model=a", "sweep=tpe", "train.batch_size=8,64", "launcher.workers=2", "train.epochs=3"])
    assert overrides.settings == ["sweep=tpe", "launcher.workers=2"]
    assert overrides.fixed == ["model=a", "train.epochs=3"]
    assert space.resolve(texts, overrides) == {"always": {"train.batch_size": "8,64", "model.x": "1,2"}}


def test_a_grid_has_every_combination_once() -> None:
    combinations = space.grid(space.distributions({"always": {"a": "1,2", "b": "range(0, 3)"}}))
    assert len(combinations) == 6 and len({tuple(values.values()) for values in combinations}) == 6
    assert space.grid({}) == [{}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare.seed=1,2"], "prepare.seed: a sweep searches training parameters only"),
        (["data=a,b"], "data: a sweep searches"),
        (["train.epochs="[:-1]], "train.epochs: not a Hydra override"),
    ],
)
def test_shared_values_and_malformed_overrides_are_rejected(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        space.divide(arguments)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"sometimes": {"a": "1,2"}}, "sweep.space.sometimes: write always or a condition"),
        ({"always": {"a": "5"}}, "a=5: a search needs several values"),
        ({"always": {"a": "tag(log, interval(0.0, 1.0))"}}, "a=tag"),
        ({"always": {"data.path": "a,b"}}, "sweep.space.always.data.path: a sweep searches"),
        ({"always": {"model": "glob(*)"}}, "model=glob(*): list the values"),
    ],
)
def test_an_invalid_space_is_rejected(texts: dict[str, dict[str, str]], message: str) -> None:
    with pytest.raises(UserError) as error:
        space.resolve(texts, space.divide([]))
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_an_interval_has_no_grid() -> None:
    with pytest.raises(UserError, match="a: an interval has no grid"):
        space.grid(space.distributions({"always": {"a": "interval(0.1, 1.0)"}}))
