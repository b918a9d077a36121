"""A version and the champion, measured on the same test data."""

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import evaluation
from ..core import config, errors
from ..tracking import lockfile
from .versions import MODEL

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from .gates import Gate, Gates


class StoredModel(NamedTuple):
    """A model on this disk.

    Attributes:
        name: <model>/<version>, where it is registered.
        model: The ONNX file.
        description: The content of its model.json.
        data: MD5 of the data/prepared that it was trained on, if known.
    """

    name: str
    model: Path
    description: dict[str, Any]
    data: str | None


def fetch(found: "ModelVersion", folder: Path) -> StoredModel:
    """Copies a registered version's model from the registry.

    Args:
        found: The version.
        folder: Where to; other versions may lie there.

    Raises:
        UserError: Where it is not complete, or not what was registered.
    """
    import mlflow

    name = f"{MODEL}/{found.version}"
    own = folder / str(found.version)
    own.mkdir(exist_ok=True)  # a second comparison fetches it again
    at = Path(mlflow.artifacts.download_artifacts(f"models:/{name}", dst_path=str(own)))
    model, description = at / "model.onnx", at / "extra_files" / "model.json"
    if not model.is_file() or not description.is_file():
        raise errors.UserError(
            f"{name} lacks {model.name} or {description.name}: its artifacts are gone, or not of this project"
        )
    if hashlib.sha256(model.read_bytes()).hexdigest() != found.tags.get("model_sha256"):
        raise errors.UserError(
            f"{name}: its model.onnx is not the file that was registered (SHA-256); nothing was used"
        )
    return StoredModel(name, model, json.loads(description.read_text(encoding="utf-8")), found.tags.get("data_md5"))


def compares(settings: "Gates") -> bool:
    """Says whether a gate asks for the champion."""
    return bool(settings.champion or settings.slices)


def judge(candidate: StoredModel, champion: StoredModel | None, settings: "Gates") -> "list[Gate]":
    """Measures a model, and the champion, on the test split of the workspace.

    Args:
        candidate: The model.
        champion: The champion, if there is one to compare with.
        settings: The gates.

    Raises:
        UserError: Where a model cannot be asked with these data, or the configuration names what there is not.
    """
    import numpy as np

    from .. import prepared
    from .. import targets as harness_targets
    from ..evaluation.metrics import grouped
    from ..exported import inference
    from . import gates

    manifest = prepared.manifest()
    target, modality = harness_targets.target(manifest), prepared.modality(manifest)
    evaluator = evaluation.evaluator(manifest)
    targets = np.asarray(prepared.targets("test"))
    first = next(iter(modality.feeds("test")))
    data = lockfile.training(lockfile.read_lock()).inputs["data/prepared"]

    def measured(stored: StoredModel) -> Any:
        problem = inference.misfit(stored.model, first)
        for key in ("target", "target_name", "classes"):
            if stored.description.get(key) != manifest.get(key):
                problem = f"its {key} is {stored.description.get(key)}, not {manifest.get(key)}"
        if problem:
            only = "; to judge without it: gates.champion=null gates.slices=null" if stored is champion else ""
            raise errors.UserError(f"{stored.name} cannot be asked about the present test data: {problem}{only}")
        if stored.data != data:
            print(
                f"note: {stored.name} was trained on other data; it may know some of these test data", file=sys.stderr
            )
        outputs = inference.predict(stored.model, modality.feeds("test"))
        if bad := int((~inference.finite_rows(outputs)).sum()):
            raise errors.UserError(
                f"{stored.name} does not answer with a finite number for {bad} of {len(targets)} test examples"
            )
        return evaluator.metrics(outputs, targets, stored.description)

    mine = measured(candidate)
    metrics = mine(np.ones(len(targets)))
    if unknown := [name for name in settings.absolute if name not in metrics]:
        raise errors.UserError(f"gates.absolute: {unknown[0]} is not measured; choose from {', '.join(metrics)}")
    found = gates.absolute(metrics, settings.absolute)
    if champion is not None:
        theirs = measured(champion)
        metric = gates.Metric(target.METRIC, target.HIGHER_IS_BETTER)
        if settings.champion:
            found.append(gates.champion(metric, mine, theirs, len(targets), settings.champion))
        if settings.slices:
            groups = evaluator.groups(targets, manifest)
            group = manifest.get("group")  # no input of the model
            columns = [name for name, values in first.items() if values.ndim == 1] + [group] * (group is not None)
            if unknown := [name for name in settings.slices.columns if name not in columns]:
                told = f"choose from {', '.join(columns)}" if columns else "pictures have none"
                raise errors.UserError(f"gates.slices.columns: {unknown[0]} is neither an input nor data.group: {told}")
            for name in settings.slices.columns:
                values = (
                    modality.groups("test")
                    if name == group
                    else np.concatenate([feed[name] for feed in modality.feeds("test")])
                )
                groups |= grouped(name, values)
            found.append(gates.slices(metric, mine, theirs, groups, settings.slices))
    if settings.latency_ms is not None:
        found.append(gates.at_most("latency", inference.latency(candidate.model, first), settings.latency_ms, " ms"))
    if settings.size_mb is not None:
        found.append(gates.at_most("size", candidate.model.stat().st_size / 1e6, settings.size_mb, " MB"))
    if settings.calibration is not None:
        found.append(gates.at_most("calibration", evaluator.calibration_error(metrics), settings.calibration))
    return found


def read_gates(overrides: Sequence[str]) -> "Gates":
    """Composes and checks conf/gates.yaml.

    Args:
        overrides: In Hydra's grammar.

    Raises:
        UserError: Where it is not valid.
    """
    from omegaconf import OmegaConf

    from .gates import Gates

    sections: Any = OmegaConf.to_container(OmegaConf.create(config.compose(name="gates", overrides=overrides)))
    config.check(sections, {"gates": Gates}, origin="conf/gates.yaml")
    return Gates.model_validate_json(json.dumps(sections["gates"]))
