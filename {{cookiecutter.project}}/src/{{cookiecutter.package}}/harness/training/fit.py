"""Training methods: one function each, chosen by `_target_` in conf/train/.

Heavy libraries are not imported here: the stage `config` reads these signatures and must not wait for TensorFlow.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from .. import contracts, targets
from ..contracts import Fitted, Report
from ..core import config
from ..core.errors import UserError
from ..targets import monitor as monitors
from .strategy import Strategy

ONE_DEVICE = Strategy()


def silent(epoch: int, metrics: Mapping[str, float]) -> None:
    """Default callback: ignores the metrics of an epoch."""


def gradient_descent(  # noqa: PLR0913  The keyword-only parameters are section `train` of the configuration.
    model: Mapping[str, Any],
    inputs: contracts.Inputs,
    manifest: contracts.Manifest,
    report: Report = silent,
    *,
    seed: NonNegativeInt,
    epochs: PositiveInt,
    batch_size: PositiveInt,
    learning_rate: Annotated[PositiveFloat, Field(le=10)],
    monitor: Annotated[str, Field(pattern="^val_")],
    patience: PositiveInt,
    class_weights: Literal["none", "balanced"] = "none",
    threads: PositiveInt | None = None,
    limit: PositiveInt | None = None,
    profile: bool = False,
    strategy: Strategy = ONE_DEVICE,
) -> Fitted:
    """A Keras model, fitted by Adam with early stopping.

    Source: D. P. Kingma, J. Ba, Adam: A Method for Stochastic Optimization, ICLR 2015.

    Args:
        model: Section `model` of the configuration.
        inputs: Arrays on which the model is fitted.
        manifest: Manifest of the prepared data.
        report: Called with the number, losses and metrics of each epoch; an exception that it raises ends the training.
        seed: Seed of the initial weights, the shuffling, the augmentation and the dropout.
        epochs: Maximum number of epochs.
        batch_size: Number of examples in a batch.
        learning_rate: Step size.
        monitor: Validation metric of early stopping, which restores the weights of the best epoch.
        patience: Number of epochs without improvement after which training stops.
        class_weights: `balanced` weights each class by N / (classes * N_class), `none` weights all examples equally.
        threads: Number of threads; None is one for each processor. Rounding depends on the number.
        limit: Maximum number of training and of validation examples, for debugging; None for all.
        profile: Whether to write a profile of the training to build/profile.
        strategy: Devices and precision, a `Strategy` or its YAML mapping.

    Raises:
        UserError: If the model does not fit the data or the target, or the loss is not finite.
    """
    refuse_mismatch(model, gradient_descent)
    devices = Strategy.model_validate(strategy)
    _check_descent(inputs, manifest, monitor, class_weights == "balanced", devices)
    from . import descent, keras_fit

    settings = descent.Settings(
        seed=seed,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        monitor=monitor,
        patience=patience,
        class_weights=class_weights,
        threads=threads,
        limit=limit,
        profile=profile,
        strategy=devices,
    )
    return keras_fit.fit(model, inputs, manifest, settings, report)


def solver(
    model: Mapping[str, Any], inputs: contracts.Inputs, manifest: contracts.Manifest, report: Report = silent
) -> Fitted:
    """A linear model, fitted by its own solver, without epochs.

    Args:
        model: Section `model` of the configuration.
        inputs: Arrays on which the model is fitted.
        manifest: Manifest of the prepared data.
        report: Called once, with the losses and metrics of the solution.

    Raises:
        UserError: If the model has no solver.
    """
    refuse_mismatch(model, solver)
    fitted: Fitted = config.instantiate(model, inputs, manifest)
    report(0, fitted.history.iloc[0].to_dict())
    return fitted


def has_solver(model: Mapping[str, Any]) -> bool:
    """Whether a model has its own solver: its function returns a `Fitted`.

    Args:
        model: Section `model` of the configuration.
    """
    return inspect.signature(config.target(model["_target_"])).return_annotation is Fitted


def refuse_steps(train: Mapping[str, Any]) -> None:
    """Rejects gradient-descent settings for a model with its own solver.

    Args:
        train: Section `train` of the configuration.

    Raises:
        UserError: Naming the settings.
    """
    known, descent = (inspect.signature(method).parameters.keys() for method in (solver, gradient_descent))
    keys = [f"train.{key}" for key in train if key in descent - known]
    if train.get("_target_") == f"{__name__}.{solver.__name__}" and keys:
        raise UserError(
            f"{', '.join(keys)}: these settings apply to gradient descent only, and the model has its own solver: "
            "remove them (debug=... sets some), or choose another model"
        )


def refuse_mismatch(model: Mapping[str, Any], method: Callable[..., Any]) -> None:
    """Rejects a model that does not suit the training method.

    Args:
        model: Section `model` of the configuration.
        method: The function that section `train` names.

    Raises:
        UserError: Naming the option of `train` to choose.
    """
    if has_solver(model) and method is gradient_descent:
        raise UserError(f"train: {model['_target_']} has its own solver: choose train: exact in conf/config.yaml")
    if not has_solver(model) and method is solver:
        raise UserError(f"train: {model['_target_']} has no solver: choose train: default in conf/config.yaml")


def _check_descent(
    inputs: contracts.Inputs, manifest: contracts.Manifest, monitor: str, balanced: bool, devices: Strategy
) -> None:
    """Rejects settings that contradict the data or each other."""
    choices = monitors.choices(targets.target(manifest))
    if monitor not in choices:
        raise UserError(f"train.monitor: {monitor} is not a metric of this target: choose {' or '.join(choices)}")
    if balanced and manifest["target"] != "classification":
        raise UserError("train.class_weights: there are no classes to balance: set it to none")
    if inputs.array("train").dtype == "float64":
        raise UserError("features: Keras models compute in float32: choose features: default or precision: float32")
    if devices.xla and devices.distribution == "mirrored":
        raise UserError("train.strategy.xla: XLA cannot compile a step on several GPUs: set it to false")
