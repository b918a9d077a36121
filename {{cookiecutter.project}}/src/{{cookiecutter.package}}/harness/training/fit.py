"""How a model is fitted: each way is one function, chosen by `_target_` in conf/train/.

Nothing heavy is imported above: the stage `config` reads these signatures, and must not wait for TensorFlow.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from .. import contracts, targets
from ..contracts import Fitted, Report
from ..core import config
from ..core.errors import UserError
from . import epochs
from . import epochs as training_epochs
from .strategy import Strategy

if TYPE_CHECKING:
    pass

ONE_DEVICE = Strategy()


def gradient_descent(
    model: Mapping[str, Any],
    inputs: contracts.Inputs,
    manifest: contracts.Manifest,
    report: Report = training_epochs.silent,
    *,
    seed: NonNegativeInt,
    epochs: PositiveInt,
    batch_size: PositiveInt,
    learning_rate: Annotated[PositiveFloat, Field(le=10)],
    monitor: Literal["val_loss", "val_accuracy", "val_mae"],
    patience: PositiveInt,
    class_weights: Literal["none", "balanced"] = "none",
    threads: PositiveInt | None = None,
    limit: PositiveInt | None = None,
    profile: bool = False,
    strategy: Strategy = ONE_DEVICE,
) -> Fitted:
    """Fits a Keras model by Adam (D. P. Kingma, J. Ba, ICLR 2015) with early stopping.

    Args:
        model: Section `model` of the configuration.
        inputs: What the model is given.
        manifest: Of the prepared data.
        report: Is told each epoch's number and what was measured in it; training ends with what it raises.
        seed: Of the initial weights, the shuffling, the augmentation and the dropout.
        epochs: The most epochs to train.
        batch_size: Examples in a batch.
        learning_rate: Step size.
        monitor: The validation metric that early stopping watches; the best epoch's weights are kept.
        patience: Epochs without improvement after which training stops.
        class_weights: `balanced` weighs each class by N / (classes * N_class), `none` weighs all examples alike.
        threads: How many threads compute; None takes one for each processor. Another number rounds differently.
        limit: Takes only the first examples of the training and the validation split, to look for mistakes.
        profile: Writes a profile of the training to build/profile.
        strategy: On which devices it computes, and in which precision; as read from YAML, or checked.

    Raises:
        UserError: Where the model does not fit the data or the target, or its loss is no longer a number.
    """
    refuse_mismatch(model, gradient_descent)
    target = targets.target(manifest)
    if monitor not in ("val_loss", f"val_{target.METRIC}"):
        raise UserError(f"train.monitor: {monitor} is not measured here: choose val_loss or val_{target.METRIC}")
    if class_weights == "balanced" and manifest["target"] != "classification":
        raise UserError("train.class_weights: there are no classes to balance: set it to none")
    if inputs.array("train").dtype == "float64":
        raise UserError("features: Keras models compute in float32: choose features: default or precision: float32")
    devices = Strategy.model_validate(strategy)
    if devices.xla and devices.distribution == "mirrored":
        raise UserError("train.strategy.xla: XLA does not compile a step of several GPUs: set it to false")
    from . import keras_fit

    return keras_fit.fit(
        model,
        inputs,
        manifest,
        keras_fit.Settings(
            seed,
            epochs,
            batch_size,
            learning_rate,
            monitor,
            patience,
            class_weights,
            threads,
            limit,
            profile,
            devices,
        ),
        report,
    )


def exact(
    model: Mapping[str, Any], inputs: contracts.Inputs, manifest: contracts.Manifest, report: Report = epochs.silent
) -> Fitted:
    """Fits a linear model by its own solver; it has no epochs and no learning rate.

    Args:
        model: Section `model` of the configuration.
        inputs: What the model is given.
        manifest: Of the prepared data.
        report: Is told what was measured.

    Raises:
        UserError: Where the model has no such solver.
    """
    refuse_mismatch(model, exact)
    fitted: Fitted = config.instantiate(model, inputs, manifest)
    report(0, fitted.history.iloc[0].to_dict())
    return fitted


def solves_itself(model: Mapping[str, Any]) -> bool:
    """Says whether a model is fitted by its own function, which then declares to return a `Fitted`.

    Args:
        model: Section `model` of the configuration.
    """
    return inspect.signature(config.target(model["_target_"])).return_annotation is Fitted


def refuse_steps(train: Mapping[str, Any]) -> None:
    """Stops where a model that is solved exactly is given what only one that is trained in steps has a use for.

    Args:
        train: Section `train` of the configuration.

    Raises:
        UserError: Naming the keys.
    """
    known, steps = (inspect.signature(way).parameters.keys() for way in (exact, gradient_descent))
    if train.get("_target_") == f"{__name__}.exact" and (keys := [key for key in train if key in steps - known]):
        raise UserError(
            f"{', '.join(f'train.{key}' for key in keys)}: a model that is solved exactly knows no steps, no epochs: "
            "go without it, and without debug=..., or choose another model"
        )


def refuse_mismatch(model: Mapping[str, Any], way: Callable[..., Any]) -> None:
    """Stops where a model cannot be fitted in the chosen way.

    Args:
        model: Section `model` of the configuration.
        way: The function that section `train` names.

    Raises:
        UserError: Naming the way to choose.
    """
    if solves_itself(model) and way is gradient_descent:
        raise UserError(f"train: {model['_target_']} is solved exactly: choose train: exact in conf/config.yaml")
    if not solves_itself(model) and way is exact:
        raise UserError(f"train: {model['_target_']} has no exact solution: choose train: default in conf/config.yaml")
