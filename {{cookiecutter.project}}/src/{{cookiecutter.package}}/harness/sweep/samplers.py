"""Optuna's samplers and pruners, by their names in section `sweep`."""

from typing import TYPE_CHECKING, Literal

from ..contracts import Target
from ..targets import monitor
from .settings import LATENCY

if TYPE_CHECKING:
    import optuna

Direction = Literal["maximize", "minimize"]


def sampler(name: str, seed: int, number: int) -> "optuna.samplers.BaseSampler":
    """The sampler of one trial.

    Each trial has its own sampler: a shared one would repeat its first random numbers after a restart.

    Args:
        name: Key `sampler` of section `sweep`.
        seed: Key `seed` of section `sweep`.
        number: Number of the trial.
    """
    import numpy as np
    import optuna

    trial_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    if name == "tpe":  # J. Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011
        return optuna.samplers.TPESampler(seed=trial_seed, constant_liar=True)
    if name == "cmaes":  # N. Hansen, A. Ostermeier, Evolutionary Computation 9, 2001
        return optuna.samplers.CmaEsSampler(seed=trial_seed, warn_independent_sampling=False)
    return optuna.samplers.RandomSampler(seed=trial_seed)


def pruner(name: str, warmup: int) -> "optuna.pruners.BasePruner":
    """The pruner of a study.

    Args:
        name: Key `pruner` of section `sweep`.
        warmup: Epochs in which no trial is pruned.
    """
    import optuna

    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=warmup)
    if name == "halving":  # L. Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, warmup))
    return optuna.pruners.NopPruner()


def direction(metric: str, target: Target) -> Direction:
    """The direction in which an objective of the sweep improves.

    Args:
        metric: The objective.
        target: The target, which defines the direction of its metric; for loss and latency, lower is better.
    """
    return "maximize" if metric != LATENCY and monitor.mode(metric, target) == "max" else "minimize"
