"""Judges a version and the champion on the same test data."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core import config, files
from ..core.errors import UserError
from ..core.text import number
from ..exported.model import DECISION, with_decision
from ..tracking import lockfile
from .versions import MODEL

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from numpy.typing import NDArray

    from .gates import Gate, Scored
    from .settings import Gates


class StoredModel(NamedTuple):
    """A model on disk.

    Attributes:
        name: Name for messages; `<model>/<version>` of a registered model.
        model: The ONNX file.
        description: The content of the model's model.json, with `decision`.
        data: MD5 of data/prepared at its training, if known.
    """

    name: str
    model: Path
    description: dict[str, Any]
    data: str | None


class Examples(NamedTuple):
    """The test split of the workspace.

    Attributes:
        manifest: The manifest of data/prepared.
        targets: Targets [N].
        batch: The first batch of inputs: input -> array.
        data: MD5 of data/prepared.
    """

    manifest: dict[str, Any]
    targets: "NDArray[Any]"
    batch: "dict[str, NDArray[Any]]"
    data: str


def fetch(version: "ModelVersion", folder: Path) -> StoredModel:
    """Downloads the model of a registered version.

    Args:
        version: The version.
        folder: Folder of the downloads, which may hold other versions.

    Raises:
        UserError: If a file is missing, or differs from the registered one.
    """
    import mlflow

    name = f"{MODEL}/{version.version}"
    target = folder / str(version.version)
    target.mkdir(exist_ok=True)  # a second comparison downloads the version again
    artifacts = Path(mlflow.artifacts.download_artifacts(f"models:/{name}", dst_path=str(target)))
    model, description = artifacts / "model.onnx", artifacts / "extra_files" / "model.json"
    if not model.is_file() or not description.is_file():
        raise UserError(
            f"{name} lacks {model.name} or {description.name}: its artifacts were deleted, or are of another project"
        )
    if files.digest(model) != version.tags.get("model_sha256"):
        raise UserError(f"{name}: model.onnx differs from the registered file (SHA-256), and is not used")
    content = with_decision(files.read_json(description), _decision(version, target))
    return StoredModel(name, model, content, version.tags.get("data_md5"))


def _decision(version: "ModelVersion", folder: Path) -> dict[str, Any]:
    """The content of a version's decision.json; {} for a version from before decisions."""
    import mlflow

    if not version.run_id:  # registered by hand
        return {}
    logged = [item.path for item in mlflow.MlflowClient().list_artifacts(version.run_id)]
    if DECISION not in logged:
        return {}
    path = mlflow.artifacts.download_artifacts(run_id=version.run_id, artifact_path=DECISION, dst_path=str(folder))
    content: dict[str, Any] = files.read_json(Path(path))
    return content


def compares(settings: "Gates") -> bool:
    """Whether a gate compares with the champion."""
    return bool(settings.champion or settings.slices)


def judge(candidate: StoredModel, champion: StoredModel | None, settings: "Gates") -> "list[Gate]":
    """The outcome at each gate, on the test split of the workspace.

    Args:
        candidate: The model to promote.
        champion: The champion, if there is one to compare with.
        settings: The gates.

    Raises:
        UserError: If a model does not fit these data, or the configuration names a metric or column that does not
            exist.
    """
    from .. import targets
    from ..evaluation import metrics
    from . import gates

    examples = read_examples()
    scored = score(candidate, examples)
    remedy = "; to judge without it: gates.champion=null gates.slices=null"
    target = targets.target(examples.manifest)
    evidence = gates.Evidence(
        candidate=scored,
        champion=score(champion, examples, remedy) if champion else None,
        criterion=gates.Criterion(target.METRIC, target.HIGHER_IS_BETTER),
        values=metrics.unweighted(scored.metrics, len(examples.targets)),
        manifest=examples.manifest,
        targets=examples.targets,
        batch=examples.batch,
    )
    outcomes = gates.judge(evidence, settings)
    if settings.membership is not None:
        outcomes.append(_membership(candidate, scored, examples, settings.membership))
    return outcomes


def _membership(stored: StoredModel, scored: "Scored", examples: Examples, most: float) -> "Gate":
    """The gate of membership inference; a model of other data does not pass.

    Args:
        stored: The model.
        scored: The model with its outputs for the test examples.
        examples: The test split.
        most: Maximum AUC.
    """
    from .. import evaluation, prepared
    from ..evaluation import membership, metrics
    from ..exported import inference
    from . import gates

    if stored.data != examples.data:
        return gates.Gate("membership", "unknown: trained on other data", f"at most {number(most)}", False)
    targets = prepared.targets("train")
    rows = membership.sampled(len(targets), len(examples.targets))
    feeds = prepared.modality(examples.manifest).feeds("train", rows=rows)
    outputs = inference.predict(stored.model, feeds)
    losses = evaluation.evaluator(examples.manifest).losses
    members, others = losses(outputs, targets[rows]), losses(scored.outputs, examples.targets)
    auc = metrics.unweighted(membership.attack(members, others), len(members) + len(others))["auc"]
    return gates.at_most("membership", auc, most)


def read_examples() -> Examples:
    """Reads the test split of the workspace."""
    import numpy as np

    from .. import prepared

    manifest = prepared.manifest()
    return Examples(
        manifest,
        np.asarray(prepared.targets("test")),
        next(iter(prepared.modality(manifest).feeds("test"))),
        lockfile.training(lockfile.read_lock()).inputs["data/prepared"],
    )


def score(stored: StoredModel, examples: Examples, remedy: str = "") -> "Scored":
    """Predicts the test examples with a model.

    Args:
        stored: The model.
        examples: The test split.
        remedy: End of the message if the model does not fit the test data.

    Raises:
        UserError: If the model does not fit the test data, or an output is not finite.
    """
    from .. import evaluation, prepared
    from ..exported import inference
    from . import gates

    if problem := _misfit(stored, examples):
        raise UserError(f"{stored.name} does not fit the current test data: {problem}{remedy}")
    if stored.data != examples.data:
        print(f"note: {stored.name} was trained on other data, which may include test examples", file=sys.stderr)
    outputs = inference.predict(stored.model, prepared.modality(examples.manifest).feeds("test"))
    if bad := int((~inference.finite_rows(outputs)).sum()):
        raise UserError(f"{stored.name}: its outputs are not finite for {bad} of {len(outputs)} test examples")
    metrics = evaluation.evaluator(examples.manifest).metrics(outputs, examples.targets, stored.description)
    return gates.Scored(stored.model, stored.description, outputs, metrics)


def _misfit(stored: StoredModel, examples: Examples) -> str | None:
    from ..exported import inference

    for key in ("target", "target_name", "classes"):
        if stored.description.get(key) != examples.manifest.get(key):
            return f"its {key} is {stored.description.get(key)}, not {examples.manifest.get(key)}"
    return inference.misfit(stored.model, examples.batch)


def read_gates(overrides: Sequence[str]) -> "Gates":
    """Composes and checks conf/gates.yaml.

    Args:
        overrides: Overrides in Hydra's grammar.

    Raises:
        UserError: If the configuration is not valid.
    """
    from .settings import Gates

    settings = config.load_file("gates", "gates", Gates, overrides)
    custom = {f"gates.custom.{name}": section for name, section in settings.custom.items()}
    config.check(custom, {}, custom, origin="conf/gates.yaml")
    return settings
