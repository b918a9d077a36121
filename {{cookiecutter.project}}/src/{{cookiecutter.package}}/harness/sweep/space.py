"""The search space: Hydra's notation for sweeps, as distributions of Optuna.

A space maps a condition (`always`, or a choice such as `model=cnn`) to override keys and their values, written as on
Hydra's command line: `choice(...)` or `a,b,c`, `range(from, to, step)`, `interval(from, to)`,
`int(interval(from, to))`, `tag(log, interval(from, to))`.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.errors import UserError, one_line

if TYPE_CHECKING:
    import optuna
    from hydra.core.override_parser.types import Override
    from optuna.distributions import BaseDistribution

ALWAYS = "always"
AFTER_TRAINING = ("explain", "robustness", "evaluate")  # sections on which no training depends
NOT_SEARCHED = ("data", "prepare", *AFTER_TRAINING, "sweep", "launcher")  # trials share the prepared data
Space = Mapping[str, Mapping[str, "BaseDistribution"]]
Texts = Mapping[str, Mapping[str, str]]


class Overrides(NamedTuple):
    """The overrides of a command line.

    Attributes:
        settings: Overrides of the sections `sweep` and `launcher`.
        fixed: Overrides of every trial.
        searched: Key -> values to search.
    """

    settings: list[str]
    fixed: list[str]
    searched: dict[str, str]


class _Parameter(NamedTuple):
    """A parameter of the space.

    Attributes:
        name: Name in Optuna: the key, preceded by the condition unless that is `always`.
        condition: `always`, or a choice such as `model=cnn`.
        key: The override's key.
        distribution: Distribution of the values.
    """

    name: str
    condition: str
    key: str
    distribution: "BaseDistribution"


def parse(overrides: Sequence[str]) -> "list[Override]":
    """Overrides parsed by Hydra's grammar.

    Raises:
        UserError: If an override cannot be parsed.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parsed = []
    for override in overrides:
        try:
            parsed += OverridesParser.create().parse_overrides([override])
        except HydraException as error:
            reason = str(error).splitlines()[0]
            problem = "not a Hydra override, such as train.learning_rate=0.001"
            raise UserError(f"{override}: {problem}: {reason}") from error
    return parsed


def divide(arguments: Sequence[str]) -> Overrides:
    """Divides the overrides of a command line by their purpose.

    Raises:
        UserError: If an override cannot be parsed, or searches a value that all trials share.
    """
    divided = Overrides([], [], {})
    for argument, override in zip(arguments, parse(arguments), strict=True):
        key = override.get_key_element()
        section = key.lstrip("+~").replace("/", ".").split(".")[0]
        if override.is_sweep_override():
            _refuse_shared(section, key)
            divided.searched[key] = argument.partition("=")[2]
        elif section in ("sweep", "launcher"):
            divided.settings.append(argument)
        else:
            divided.fixed.append(argument)
    return divided


def resolve(configured: Mapping[str, Mapping[str, Any]], overrides: Overrides) -> dict[str, dict[str, str]]:
    """The configured space with the changes of the command line.

    Args:
        configured: Key `space` of the section.
        overrides: Overrides of the command line. A fixed key is not searched; a searched key replaces the configured
            values.

    Raises:
        UserError: If an entry is not valid.
    """
    keys = [override.key_or_group for override in parse(overrides.fixed)]
    fixed = {key: argument.partition("=")[2] for key, argument in zip(keys, overrides.fixed, strict=True)}
    resolved = {ALWAYS: dict(overrides.searched)}
    for condition, entries in configured.items():
        group, equals, choice = condition.partition("=")
        if condition != ALWAYS and not equals:
            raise UserError(f"sweep.space.{condition}: write {ALWAYS} or a condition such as model=mlp")
        if fixed.get(group, choice) != choice:
            continue
        section = resolved.setdefault(ALWAYS if group in fixed else condition, {})
        for key, values in entries.items():
            _refuse_shared(key.split(".")[0], f"sweep.space.{condition}.{key}")
            if key not in fixed and key not in overrides.searched:
                section[key] = str(values)
    resolved = {condition: entries for condition, entries in resolved.items() if entries}
    distributions(resolved)  # raises if an entry is not valid
    return resolved


def _refuse_shared(section: str, place: str) -> None:
    if section in NOT_SEARCHED:
        raise UserError(
            f"{place}: a sweep searches training parameters only, because all trials share data/prepared; to vary this "
            "key, use `dvc exp run --queue -S`"
        )


def distributions(texts: Texts) -> Space:
    """A space as distributions of Optuna.

    Args:
        texts: Condition -> key -> values.

    Raises:
        UserError: If an entry is not valid.
    """
    return {
        condition: {key: distribution(key, values) for key, values in entries.items()}
        for condition, entries in texts.items()
    }


def distribution(key: str, values: str) -> "BaseDistribution":
    """The distribution of one parameter.

    Args:
        key: The override's key.
        values: Its values, in Hydra's notation.

    Raises:
        UserError: If there are fewer than two values.
    """
    from hydra.errors import HydraException

    (override,) = parse([f"{key}={values}"])
    try:
        return _interval(override) if override.is_interval_sweep() else _choices(override)
    except (ValueError, HydraException) as error:
        raise UserError(f"{key}={values}: {one_line(error)}") from error


def _interval(override: "Override") -> "BaseDistribution":
    from optuna.distributions import FloatDistribution, IntDistribution

    interval: Any = override.value()
    kind = IntDistribution if isinstance(interval.start, int) and isinstance(interval.end, int) else FloatDistribution
    return kind(interval.start, interval.end, log="log" in interval.tags)


def _choices(override: "Override") -> "BaseDistribution":
    from hydra.core.override_parser.types import Glob, Transformer
    from optuna.distributions import CategoricalDistribution, IntDistribution

    values: Any = override.value()
    if isinstance(values, Glob):
        raise ValueError("list the values, a,b,c for instance")
    if not override.is_sweep_override():
        raise ValueError("a search needs several values: write choice(...), or set the one value on the command line")
    if override.is_range_sweep() and isinstance(numbers := values.range(), range) and len(numbers):
        return IntDistribution(numbers[0], numbers[-1], step=numbers.step)
    choices: list[Any] = list(override.sweep_iterator(transformer=Transformer.encode))
    return CategoricalDistribution(choices)


def grid(space: Space) -> list[dict[str, Any]]:
    """Every combination of a space, as key -> value.

    Raises:
        UserError: If the space has an interval or a condition, which cannot be enumerated.
    """
    if conditions := [condition for condition in space if condition != ALWAYS]:
        raise UserError(f"sweep.space.{conditions[0]}: sweep=grid has no conditions: choose sweep=tpe or sweep=random")
    entries = space.get(ALWAYS, {})
    combinations = itertools.product(*(_values(key, distribution) for key, distribution in entries.items()))
    return [dict(zip(entries, values, strict=True)) for values in combinations]


def _values(key: str, distribution: "BaseDistribution") -> Sequence[Any]:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    if isinstance(distribution, IntDistribution) and not distribution.log:
        return range(distribution.low, distribution.high + 1, distribution.step)
    raise UserError(f"{key}: an interval has no grid: list values, {key}=a,b,c, or choose sweep=tpe or sweep=random")


def suggest(trial: "optuna.Trial", space: Space, fixed: Mapping[str, Any]) -> list[str]:
    """The overrides that a trial chooses from the space.

    Args:
        trial: The trial.
        space: The search space.
        fixed: Key or group -> its value in every trial; conditions may refer to it.
    """
    values = dict(fixed)
    overrides = []
    for parameter in _parameters(space):
        group, _, choice = parameter.condition.partition("=")
        if parameter.condition == ALWAYS or str(values.get(group)) == choice:
            values[parameter.key] = text(_suggest(trial, parameter))
            overrides.append(f"{parameter.key}={values[parameter.key]}")
    return overrides


def _parameters(space: Space) -> Iterator[_Parameter]:
    # `always` comes first: the other conditions depend on its choices.
    for condition in sorted(space, key=lambda condition: condition != ALWAYS):
        for key, distribution in space[condition].items():
            yield _Parameter(key if condition == ALWAYS else f"{condition}: {key}", condition, key, distribution)


def _suggest(trial: "optuna.Trial", parameter: _Parameter) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    name, values = parameter.name, parameter.distribution
    if isinstance(values, CategoricalDistribution):
        return trial.suggest_categorical(name, values.choices)
    if isinstance(values, IntDistribution):
        return trial.suggest_int(name, values.low, values.high, step=values.step, log=values.log)
    assert isinstance(values, FloatDistribution)
    return rounded(trial.suggest_float(name, values.low, values.high, log=values.log), values)


def rounded(value: Any, distribution: "BaseDistribution") -> Any:
    """A parameter value; floats from an interval have four significant digits.

    Args:
        value: The value in Optuna's storage.
        distribution: Distribution of the parameter; the values of a list are not rounded.
    """
    from optuna.distributions import FloatDistribution

    return float(f"{value:.4g}") if isinstance(distribution, FloatDistribution) else value


def text(value: Any) -> str:
    """A value in the notation of an override."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
