"""Training methods: one function each, chosen by `_target_` in conf/train/.

Heavy libraries are not imported here: the stage `config` reads these signatures and must not wait for TensorFlow.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from .. import contracts, targets
from ..contracts import Boosting, Fitted, Report
from ..core import config
from ..core.errors import UserError
from ..targets import monitor as monitors
from . import kernels
from .adversarial import Adversarial
from .strategy import Strategy

ONE_DEVICE, UNCHANGED = Strategy(), Adversarial()


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
    threads: PositiveInt = 4,
    portable: bool = True,
    limit: PositiveInt | None = None,
    profile: bool = False,
    strategy: Strategy = ONE_DEVICE,
    adversarial: Adversarial = UNCHANGED,
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
        threads: Number of TensorFlow's threads. Rounding depends on it, so it does not follow the machine's processors.
        portable: Whether to use kernels that give the same bits on every x86-64 processor.
        limit: Maximum number of training and of validation examples, for debugging; None for all.
        profile: Whether to write a profile of the training to build/profile.
        strategy: Devices and precision, a `Strategy` or its YAML mapping.
        adversarial: Training on the worst changes of each batch, an `Adversarial` or its YAML mapping.

    Raises:
        UserError: If the model does not fit the data or the target, or the loss is not finite.
    """
    refuse_mismatch(model, gradient_descent)
    devices = Strategy.model_validate(strategy)
    _check_monitor(manifest, monitor)
    _check_descent(inputs, manifest, class_weights == "balanced", devices)
    kernels.choose(portable)  # before the next line imports TensorFlow
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
        adversarial=Adversarial.model_validate(adversarial),
    )
    return keras_fit.fit(model, inputs, manifest, settings, report)


def boosting(  # noqa: PLR0913  The keyword-only parameters are section `train` of the configuration.
    model: Mapping[str, Any],
    inputs: contracts.Inputs,
    manifest: contracts.Manifest,
    report: Report = silent,
    *,
    seed: NonNegativeInt,
    iterations: PositiveInt,
    learning_rate: Annotated[PositiveFloat, Field(le=10)],
    monitor: Annotated[str, Field(pattern="^val_")],
    patience: PositiveInt,
    threads: PositiveInt | None = None,
) -> Fitted:
    """A model that adds trees one by one, with early stopping.

    Args:
        model: Section `model` of the configuration.
        inputs: Arrays on which the model is fitted.
        manifest: Manifest of the prepared data.
        report: Called with the losses and metrics of each iteration, after the last one.
        seed: Seed of whatever the model samples, such as columns.
        iterations: Maximum number of iterations; each adds a tree, with more than two classes a tree for each class.
        learning_rate: Factor of each tree.
        monitor: Validation metric of early stopping; the model is that of its best iteration.
        patience: Number of iterations without improvement after which training stops.
        threads: Number of threads, on which the model does not depend; None lets the model choose.

    Raises:
        UserError: If the model is not fitted in this way, or does not fit the data.
    """
    refuse_mismatch(model, boosting)
    _check_monitor(manifest, monitor)
    how = Boosting(seed, iterations, learning_rate, monitor, patience, threads)
    fitted: Fitted = config.instantiate(model, inputs, manifest, how)
    for iteration, row in enumerate(fitted.history.to_dict("records")):
        report(iteration, {str(name): value for name, value in row.items()})
    return fitted


def solver(
    model: Mapping[str, Any], inputs: contracts.Inputs, manifest: contracts.Manifest, report: Report = silent
) -> Fitted:
    """A model that its own function fits in one go, such as a linear model.

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


# conf/train/NAME.yaml -> the function that it names.
METHODS: dict[str, Callable[..., Fitted]] = {"default": gradient_descent, "boosting": boosting, "solver": solver}


def method(model: Mapping[str, Any]) -> str:
    """The training method of a model, a key of `METHODS`.

    A function that is annotated to return a `Fitted` fits the model itself; if it also takes a `Boosting`, it stops
    early. Any other function returns a Keras model.

    Args:
        model: Section `model` of the configuration.
    """
    signature = inspect.signature(config.target(model["_target_"]))
    if not _names(signature.return_annotation, Fitted):
        return "default"
    stops_early = any(_names(parameter.annotation, Boosting) for parameter in signature.parameters.values())
    return "boosting" if stops_early else "solver"


def _names(annotation: Any, kind: type) -> bool:
    """Whether an annotation is a type, or its name, as `from __future__ import annotations` leaves it."""
    return annotation is kind or str(annotation).rpartition(".")[2] == kind.__name__


def refuse_steps(train: Mapping[str, Any]) -> None:
    """Rejects gradient-descent settings for a model that is fitted otherwise.

    Args:
        train: Section `train` of the configuration.

    Raises:
        UserError: Naming the settings.
    """
    for name, function in METHODS.items():
        if train.get("_target_") == f"{__name__}.{function.__name__}":
            known, descent = (inspect.signature(each).parameters.keys() for each in (function, gradient_descent))
            if keys := [f"train.{key}" for key in train if key in descent - known]:
                raise UserError(
                    f"{', '.join(keys)}: these settings apply to gradient descent only, and the model is fitted by "
                    f"train: {name}: remove them (debug=... sets some), or choose another model"
                )


def refuse_mismatch(model: Mapping[str, Any], function: Callable[..., Any]) -> None:
    """Rejects a model that does not suit the training method.

    Args:
        model: Section `model` of the configuration.
        function: The function that section `train` names.

    Raises:
        UserError: Naming the option of `train` to choose.
    """
    needed = method(model)
    if function in METHODS.values() and function is not METHODS[needed]:
        raise UserError(
            f"train: {model['_target_']} is not fitted by {function.__name__}: choose train: {needed} in "
            "conf/config.yaml"
        )


def _check_monitor(manifest: contracts.Manifest, monitor: str) -> None:
    choices = monitors.choices(targets.target(manifest))
    if monitor not in choices:
        raise UserError(f"train.monitor: {monitor} is not a metric of this target: choose {' or '.join(choices)}")


def _check_descent(inputs: contracts.Inputs, manifest: contracts.Manifest, balanced: bool, devices: Strategy) -> None:
    """Rejects settings that contradict the data or each other."""
    if balanced and manifest["target"] != "classification":
        raise UserError("train.class_weights: there are no classes to balance: set it to none")
    if inputs.array("train").dtype == "float64":
        raise UserError("features: Keras models compute in float32: choose features: default or precision: float32")
    if devices.xla and devices.distribution == "mirrored":
        raise UserError("train.strategy.xla: XLA cannot compile a step on several GPUs: set it to false")
