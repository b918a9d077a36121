"""Stage `train`: fits the configured model on the prepared data and exports it."""

from pathlib import Path

from ..harness import prepared
from ..harness.core import config, stages
from ..harness.core.paths import HISTORY, MODELS
from ..harness.training import strategy


def main() -> None:
    """Reads data/prepared, writes models/ and reports/history.csv; a worker that helps another one writes nothing."""
    sections, manifest = config.read(), prepared.manifest()
    modality = prepared.modality(manifest)
    for key, value in sections["model"].items():  # weights, for instance
        if isinstance(value, str) and Path(value).exists():
            config.refuse_untracked(Path(value), "train", f"model.{key}", "data/weights/")
    inputs = modality.inputs(manifest, sections[modality.SECTION])
    fitted = config.instantiate(sections["train"], sections["model"], inputs, manifest)
    if strategy.follows(sections["train"]):
        return
    # Here, not above: the stage `config` imports this module and needs none of it.
    from ..harness.training import export

    used = {"model": sections["model"], modality.SECTION: sections[modality.SECTION]}
    export.save(fitted, inputs, manifest, used, MODELS)
    HISTORY.parent.mkdir(exist_ok=True)
    fitted.history.to_csv(HISTORY, index_label="epoch", float_format="%.9g", lineterminator="\n")


def start() -> None:
    """Runs the stage alone in this folder; but a worker that helps must not wait for the one it helps."""
    if strategy.follows(config.read()["train"]):
        main()
    else:
        stages.run_stage("train", main)


if __name__ == "__main__":
    stages.run(start)
