"""What a sweep searches: section `sweep`, its space in Hydra's own notation, samplers and pruners of Optuna.

A space maps a condition, `always` or `model=cnn`, to override keys and their values as Hydra's command line writes
them: `choice(...)` or `a,b,c`, `range(from, to, step)`, `interval(from, to)`, `int(interval(from, to))`,
`tag(log, interval(from, to))`.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from ..core import config
from ..core.errors import UserError
from ..training import epochs

if TYPE_CHECKING:
    import optuna
    from hydra.core.override_parser.types import Override
    from optuna.distributions import BaseDistribution

ALWAYS = "always"
LATENCY = "latency"
# What trials have in common, and what does not concern training: another value would be ignored.
NOT_SEARCHED = ("data", "prepare", "evaluate", "sweep", "launcher")
Space = dict[str, dict[str, "BaseDistribution"]]
Texts = Mapping[str, Mapping[str, str | int | float | bool]]


class Sweep(config.Section):
    """Section `sweep` of the configuration.

    Attributes:
        name: Of the study; None makes one of what is searched, so that the same command goes on with the same study.
        sampler: Chooses the parameters of a trial.
        trials: How many; None, for grid, takes every combination.
        metrics: What is optimised: validation metrics of the kept epoch, or `latency`, ms an answer of the exported
            model takes. Of two, the Pareto front is sought.
        pruner: Stops hopeless trials after an epoch: `median` of the others at that epoch, `halving` is successive
            halving, `none`. With two metrics there is none.
        warmup: Epochs in which nothing is stopped.
        seed: Of the sampler.
        seeds: With how many other seeds the best trials are repeated at the end.
        top: How many of the best are shown, and repeated.
        space: What is searched.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None
    sampler: Literal["grid", "random", "tpe", "cmaes"]
    trials: PositiveInt | None
    metrics: Annotated[list[str], Field(min_length=1, max_length=2)]
    pruner: Literal["none", "median", "halving"]
    warmup: NonNegativeInt
    seed: NonNegativeInt
    seeds: NonNegativeInt
    top: PositiveInt
    space: dict[str, dict[str, str | int | float | bool]]


def parse(arguments: Sequence[str]) -> "list[Override]":
    """Parses overrides in Hydra's grammar.

    Args:
        arguments: As on a command line.

    Raises:
        UserError: Naming the one that cannot be parsed.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parsed = []
    for argument in arguments:
        try:
            parsed += OverridesParser.create().parse_overrides([argument])
        except HydraException as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{argument}: no override of Hydra, such as train.learning_rate=0.001: {reason}") from error
    return parsed


def divide(arguments: Sequence[str]) -> tuple[list[str], list[str], dict[str, str]]:
    """Divides a command line.

    Args:
        arguments: Overrides.

    Returns:
        Overrides of how to search (`sweep`, `launcher`), those of every trial, and key -> values of what is searched.

    Raises:
        UserError: Where one cannot be parsed, or searches what trials have in common.
    """
    how, fixed, searched = [], [], {}
    for argument, override in zip(arguments, parse(arguments), strict=True):
        key = override.get_key_element()
        root = key.lstrip("+~").replace("/", ".").split(".")[0]
        if override.is_sweep_override():
            _refuse(root, key)
            searched[key] = argument.partition("=")[2]
        elif root in ("sweep", "launcher"):
            how.append(argument)
        else:
            fixed.append(argument)
    return how, fixed, searched


def space(texts: Texts, fixed: Sequence[str], searched: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Returns what is searched: the configured space, changed by the command line.

    Args:
        texts: Key `space` of the section.
        fixed: Overrides of every trial: their keys are searched no more.
        searched: Key -> values of the command line, in place of the configured ones.

    Raises:
        UserError: Naming the entry that is not valid.
    """
    keys = [override.key_or_group for override in parse(fixed)]
    given = {key: argument.partition("=")[2] for key, argument in zip(keys, fixed, strict=True)}
    made = {ALWAYS: dict(searched)}
    for condition, entries in texts.items():
        key, equals, value = condition.partition("=")
        if condition != ALWAYS and not equals:
            raise UserError(f"sweep.space.{condition}: write {ALWAYS} or a condition such as model=mlp")
        if key in given and given[key] != value:
            continue
        decided = ALWAYS if key in given else condition
        for name, text in entries.items():
            _refuse(name.split(".")[0], f"sweep.space.{condition}.{name}")
            if name not in {*given, *searched}:
                made.setdefault(decided, {})[name] = str(text)
    made = {condition: entries for condition, entries in made.items() if entries}
    distributions(made)
    return made


def distributions(texts: Mapping[str, Mapping[str, str]]) -> Space:
    """Returns a space as Optuna's distributions.

    Args:
        texts: Condition -> key -> values.

    Raises:
        UserError: Naming the entry that is not valid.
    """
    return {
        condition: {key: distribution(key, text) for key, text in entries.items()}
        for condition, entries in texts.items()
    }


def _refuse(root: str, place: str) -> None:
    if root in NOT_SEARCHED:
        raise UserError(
            f"{place}: a sweep searches parameters of the training only; all trials share data/prepared. For this one: "
            "dvc exp run --queue -S"
        )


def distribution(key: str, text: str) -> "BaseDistribution":
    """Returns the distribution that Hydra's notation stands for.

    Args:
        key: What is searched.
        text: Its values.

    Raises:
        UserError: Where it has no, or only one, value.
    """
    from hydra.core.override_parser.types import Glob, Transformer
    from hydra.errors import HydraException
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    (override,) = parse([f"{key}={text}"])
    value: Any = override.value()
    try:
        if override.is_interval_sweep():
            whole = isinstance(value.start, int) and isinstance(value.end, int)
            kind = IntDistribution if whole else FloatDistribution
            return kind(value.start, value.end, log="log" in value.tags)
        if isinstance(value, Glob):
            raise ValueError("name what is tried, a,b,c for instance")
        if not override.is_sweep_override():
            raise ValueError("one value is no search: give it on the command line, or several as choice(...)")
        if override.is_range_sweep() and isinstance(numbers := value.range(), range) and len(numbers):
            return IntDistribution(numbers[0], numbers[-1], step=numbers.step)
        values: list[Any] = list(override.sweep_iterator(transformer=Transformer.encode))
        return CategoricalDistribution(values)
    except (ValueError, HydraException) as error:
        raise UserError(f"{key}={text}: {' '.join(str(error).split())}") from error


def grid(searched: Space) -> list[dict[str, Any]]:
    """Returns every combination of a space, as name -> value.

    Args:
        searched: The space.

    Raises:
        UserError: Where it holds an interval or a condition, which have no combinations.
    """
    if conditions := [condition for condition in searched if condition != ALWAYS]:
        raise UserError(f"sweep.space.{conditions[0]}: sweep=grid has no conditions: choose sweep=tpe or sweep=random")
    return [
        dict(zip(entries, values, strict=True))
        for entries in [searched.get(ALWAYS, {})]
        for values in itertools.product(*(_values(key, found) for key, found in entries.items()))
    ]


def _values(key: str, found: "BaseDistribution") -> Sequence[Any]:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(found, CategoricalDistribution):
        return found.choices
    if isinstance(found, IntDistribution) and not found.log:
        return range(found.low, found.high + 1, found.step)
    raise UserError(f"{key}: an interval has no grid: name values, {key}=a,b,c, or choose sweep=tpe or sweep=random")


def suggest(trial: "optuna.Trial", searched: Space, chosen: Mapping[str, Any]) -> list[str]:
    """Returns a trial's overrides.

    Args:
        trial: Chooses.
        searched: The space.
        chosen: Key -> value where nothing is searched, groups included: what conditions are compared with.
    """
    values = dict(chosen)
    overrides = []
    for name, condition, key, found in _entries(searched):
        wanted = condition.partition("=")
        if condition == ALWAYS or str(values.get(wanted[0])) == wanted[2]:
            values[key] = text(_ask(trial, name, found))
            overrides.append(f"{key}={values[key]}")
    return overrides


def _entries(searched: Space) -> "Iterator[tuple[str, str, str, BaseDistribution]]":
    # `always` first: conditions look at what it has chosen.
    for condition in sorted(searched, key=lambda condition: condition != ALWAYS):
        for key, found in searched[condition].items():
            yield key if condition == ALWAYS else f"{condition}: {key}", condition, key, found


def _ask(trial: "optuna.Trial", name: str, found: "BaseDistribution") -> Any:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(found, CategoricalDistribution):
        return trial.suggest_categorical(name, found.choices)
    if isinstance(found, IntDistribution):
        return trial.suggest_int(name, found.low, found.high, step=found.step, log=found.log)
    assert isinstance(found, FloatDistribution)
    return rounded(trial.suggest_float(name, found.low, found.high, log=found.log), found)


def rounded(value: Any, found: "BaseDistribution") -> Any:
    """Returns a value as it is trained with: four significant digits of what was drawn, which people can read.

    Args:
        value: As Optuna keeps it.
        found: Where it comes from; what a person has named stays as it is.
    """
    from optuna.distributions import FloatDistribution

    return float(f"{value:.4g}") if isinstance(found, FloatDistribution) else value


def text(value: Any) -> str:
    """Returns a value as an override writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def sampler(name: str, seed: int, number: int) -> "optuna.samplers.BaseSampler":
    """Returns the sampler of one trial.

    One for each: a sampler that starts anew after an interruption would otherwise repeat its first random choices.

    Args:
        name: Key `sampler` of the section.
        seed: Key `seed`.
        number: The trial's number.
    """
    import numpy as np
    import optuna

    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    if name == "tpe":  # J. Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011
        return optuna.samplers.TPESampler(seed=own, constant_liar=True)
    if name == "cmaes":  # N. Hansen, A. Ostermeier, Evolutionary Computation 9, 2001
        return optuna.samplers.CmaEsSampler(seed=own, warn_independent_sampling=False)
    return optuna.samplers.RandomSampler(seed=own)


def pruner(name: str, warmup: int) -> "optuna.pruners.BasePruner":
    """Returns what stops hopeless trials.

    Args:
        name: Key `pruner` of the section.
        warmup: Epochs in which nothing is stopped.
    """
    import optuna

    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=warmup)
    if name == "halving":  # L. Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, warmup))
    return optuna.pruners.NopPruner()


def direction(metric: str) -> Literal["maximize", "minimize"]:
    """Returns which way a metric is better."""
    return "maximize" if epochs.mode(metric) == "max" else "minimize"
