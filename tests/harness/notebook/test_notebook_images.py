"""Pictures in a notebook."""

from pathlib import Path

import numpy as np
from my_experiment.harness import notebook, prepared
from my_experiment.harness.core import config
from my_experiment.stages import prepare


def test_examples_are_pictures_with_their_classes(workspace: Path) -> None:
    config.PARAMS.write_text(config.compose(), encoding="utf-8")
    prepare.main()
    examples = notebook.examples("test")
    assert (examples.inputs.dtype, examples.inputs.shape[1:]) == (np.uint8, (8, 8, 1))
    classes = prepared.manifest()["classes"]
    assert examples.targets.tolist() == [classes[number] for number in prepared.targets("test")]
