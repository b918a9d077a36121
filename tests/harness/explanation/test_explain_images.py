"""Stage `explain` on pictures: a model that looks at one corner."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from graphs_made import save_linear_classifier
from matplotlib import pyplot as plt
from my_experiment.harness import prepared
from my_experiment.harness.explanation import images, images_plots
from my_experiment.harness.explanation.contracts import Explanation
from my_experiment.harness.preparation import splits
from my_experiment.stages import explain

SHAPE = (12, 16, 3)


@pytest.fixture
def trained(workspace: Path) -> Path:
    """Color pictures of 12 x 16 pixels, and three classes by the brightness of their upper left corner."""
    pictures = np.random.default_rng(0).integers(0, 256, (30, *SHAPE)).astype(np.uint8)
    with splits.replaced() as folder:
        for split in prepared.SPLITS:
            np.save(folder / split / "images.npy", pictures)
            np.save(folder / split / "targets.npy", np.arange(30) % 3)
        manifest = {"input": "images", "target": "classification", "classes": ["dark", "$x$", "light"], "shape": SHAPE}
        splits.write_manifest({**manifest, "digests": dict.fromkeys(prepared.SPLITS, "0" * 64)}, folder)
    corner = np.zeros((*SHAPE, 3), np.float32)
    corner[:3, :4] = np.array([-0.001, 0, 0.001])
    digest = save_linear_classifier(corner.reshape(-1, 3), [4.6, 0, -4.6], SHAPE)
    Path("models/model.json").write_text(json.dumps({"sha256": digest}))
    section = {"seed": 0, "examples": 6, "shown": 2, "background": 100, "budget": 32}
    Path("params.yaml").write_text(yaml.safe_dump({"explain": section}), encoding="utf-8")
    return workspace


def test_effects_are_in_the_corner_that_the_model_looks_at(trained: Path) -> None:
    explain.main()
    values = json.loads(Path("reports/explanations/values.json").read_text(encoding="utf-8"))
    corner = {f"row {row}, column {column}" for row in (1, 2) for column in (1, 2)}  # of 8 x 8 cells
    assert {name for name, size in values["importance"].items() if size > 1e-6} == corner
    for shown in (*values["worst"], *values["typical"]):
        for method in ("shap", "occlusion"):
            assert {name for name, effect in shown[method].items() if abs(effect) > 1e-5} == corner
        assert {*sorted(shown["lime"], key=lambda name: -abs(shown["lime"][name]))[:4]} == corner
    assert all(check["passed"] for check in values["checks"].values()), values["checks"]
    section = Path("reports/explanations/section.md").read_text(encoding="utf-8")
    assert "How much each part of the picture adds" in section
    links = [line.split("](")[1][:-1] for line in section.splitlines() if line.startswith("![")]
    assert links == [f"explanations/plots/{name}.png" for name in ("importance", "worst", "typical")]
    first = {file: file.read_bytes() for file in Path("reports").rglob("*.*") if file.is_file()}
    explain.main()
    assert {file: file.read_bytes() for file in Path("reports").rglob("*.*") if file.is_file()} == first


@pytest.mark.parametrize(("shape", "cells"), [((8, 8, 1), 64), ((3, 5, 1), 15), ((224, 200, 3), 64), ((1, 9, 1), 8)])
def test_a_grid_has_at_most_8_cells_on_each_side_all_of_about_a_size(shape: tuple[int, int, int], cells: int) -> None:
    grid = images.grid({"shape": shape})
    counts = np.bincount(grid.ravel())
    assert len(counts) == cells == images.parts({"shape": shape}) and counts.min() > 0
    assert grid[0, 0] == 0 and grid[-1, -1] == cells - 1
    assert counts.max() <= 2.3 * counts.min()


def test_one_picture_leaves_room_for_the_labels_of_the_scale(tmp_path: Path) -> None:
    effects = np.linspace(-1, 1, 4)
    shown = Explanation(0, 0, "light, right (90.0%)", 0.0, 1.0, effects, effects, 0.9, effects)
    cells = np.array([[0, 1], [2, 3]])
    images_plots.heat_maps([np.zeros((2, 2, 3))], [shown], cells, tmp_path / "one.png")
    assert plt.imread(tmp_path / "one.png").shape[1] >= 480
