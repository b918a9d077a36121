"""Section `sweep` of the configuration."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from ..core.config import Section

LATENCY = "latency"


class Sweep(Section):
    """Section `sweep` of the configuration.

    Attributes:
        name: Name of the study; None derives it from the search, so that the same command resumes the same study.
        sampler: Algorithm that chooses the parameters of a trial.
        trials: Number of trials; None, for `grid` only, runs every combination.
        metrics: The objectives: validation metrics of the epoch whose weights are kept, or `latency`, the milliseconds
            that the exported model needs for an example. With two objectives, the result is their Pareto front.
        pruner: Algorithm that stops unpromising trials after an epoch: `median` compares a trial with the others at
            that epoch, `halving` is successive halving, `none` stops no trial. Two objectives need `none`.
        warmup: Epochs in which no trial is pruned.
        seed: Seed of the sampler.
        seeds: Number of additional seeds with which the best trials are repeated at the end.
        top: Number of best trials to show and to repeat.
        space: The search space, in the notation of the module `space`.
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
