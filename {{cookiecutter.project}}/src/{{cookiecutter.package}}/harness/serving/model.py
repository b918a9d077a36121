"""The served model: its description, input decoder and target."""

from __future__ import annotations

import pydantic
import yaml
from bentoml.exceptions import BentoMLException

from .. import inputs, targets
from ..contracts import Target
from ..core.errors import UserError
from ..core.paths import SOURCES
from ..exported import model
from ..inputs.contracts import RequestDecoder

# Beside src/ in the project; beside the package in a Bento, which packs the content of src/ without the folder.
ROOTS = SOURCES.parent, SOURCES
FOLDER = next((root for root in ROOTS if (root / "models/model.json").exists()), ROOTS[0]) / "models"


class ModelInfo(pydantic.BaseModel, extra="allow"):
    """The content of models/model.json, with `decision`; fields that not every model has are extra."""

    input: str
    target: str
    sha256: str

    @property
    def version(self) -> str:
        """The model's version in answers."""
        return self.sha256[:12]

    @property
    def requests(self) -> RequestDecoder:
        """The module that decodes requests."""
        return inputs.decoder(self.model_dump())

    @property
    def answers(self) -> Target:
        """The module of the target, which formats answers."""
        return targets.target(self.model_dump())


def read_model_info() -> ModelInfo:
    """Reads the model's description and verifies the model's SHA-256.

    Raises:
        BentoMLException: If there is no model, or it does not match its description or the labels of the Bento.
    """
    try:
        info = ModelInfo.model_validate(model.served(FOLDER))
    except UserError as error:
        raise BentoMLException(str(error)) from None
    except ValueError as error:
        raise BentoMLException(f"{FOLDER / 'model.json'} does not describe a model: run `dvc repro`") from error
    record = ROOTS[0] / "bento.yaml"
    if record.exists():  # model and description may both have been replaced: the labels record the Bento's model
        recorded = (yaml.safe_load(record.read_bytes()).get("labels") or {}).get("model_sha256", info.sha256)
        if recorded != info.sha256:
            raise BentoMLException(
                f"{FOLDER / 'model.onnx'} is not the model of this Bento ({record}: {recorded[:12]}, file: "
                f"{info.version}): build the Bento again"
            )
    return info
