"""Stage `train`: fits the configured model on the prepared data and exports it. The only one to import TensorFlow."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from .. import cli, config
from ..data import prepared

MODELS = Path("models")
HISTORY = Path("reports/history.csv")


class Train(config.Section):
    """Section `train`.

    Attributes:
        seed: Of the initial weights, the shuffling and the dropout.
        epochs: The most epochs to train.
        batch_size: Images in a batch.
        learning_rate: Step size of the Adam optimiser.
        monitor: The validation metric that early stopping watches; the best epoch's weights are kept.
        patience: Epochs without improvement after which training stops.
        class_weights: `balanced` weighs each class by N / (classes * N_class), `none` weighs all examples alike.
    """

    seed: NonNegativeInt
    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: Annotated[PositiveFloat, Field(le=10)]
    monitor: Literal["val_loss", "val_accuracy"]
    patience: PositiveInt
    class_weights: Literal["none", "balanced"]


def main() -> None:
    """Reads data/prepared, writes models/ and reports/history.csv."""
    settings = config.load("train", Train)
    target = config.read()["model"]
    manifest = prepared.manifest()
    # Here, not above: the stage `config` reads this module's schema and must not wait for TensorFlow (10 s).
    from .. import export, training

    training.make_deterministic(settings.seed)
    try:
        model = config.instantiate(target, tuple(manifest["shape"]), len(manifest["classes"]))
    except ValueError as error:  # what Keras says of layers that do not fit the images
        raise cli.UserError(f"model: {' '.join(str(error).split())}") from error
    history = training.fit(model, prepared.load("train"), prepared.load("validation"), settings)
    export.save(model, target, manifest, prepared.load("validation")[0], MODELS)
    HISTORY.parent.mkdir(exist_ok=True)
    history.to_csv(HISTORY, index_label="epoch", float_format="%.9g", lineterminator="\n")


if __name__ == "__main__":
    cli.run_stage("train", main)
