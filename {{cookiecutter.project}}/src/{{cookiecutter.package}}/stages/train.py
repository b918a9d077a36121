"""Stage `train`: fits the configured model and exports it to ONNX."""

from pathlib import Path

from ..harness import prepared
from ..harness.core import config, stages
from ..harness.core.paths import HISTORY, MODELS
from ..harness.tracking import machine
from ..harness.training import strategy


def main() -> None:
    """Writes models/ and reports/history.csv; of several workers, only the chief writes."""
    sections, manifest = config.read(), prepared.manifest()
    prepared_input = prepared.modality(manifest)
    for key, value in sections["model"].items():  # such as a file of pretrained weights
        if isinstance(value, str) and Path(value).exists():
            config.refuse_untracked(Path(value), "train", f"model.{key}", "data/weights/")
    inputs = prepared_input.inputs(manifest, sections[prepared_input.SECTION])
    fitted = config.instantiate(sections["train"], sections["model"], inputs, manifest)
    if strategy.follows(sections["train"]):
        return
    from ..harness.training import export  # here, not above: importing ONNX takes a second

    used = {key: sections[key] for key in ("model", prepared_input.SECTION)}
    export.save(fitted, inputs, manifest, used, MODELS)
    HISTORY.parent.mkdir(exist_ok=True)
    fitted.history.to_csv(HISTORY, index_label="epoch", float_format="%.9g", lineterminator="\n")
    machine.record_training(MODELS / "model.onnx", sections["train"].get("portable"))


def start() -> None:
    """Runs the stage; of several workers, the chief takes its lock."""
    if strategy.follows(config.read()["train"]):
        main()
    else:
        stages.run_stage("train", main)


if __name__ == "__main__":
    stages.run(start)
