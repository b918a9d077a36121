"""The model card as one HTML file."""

from pathlib import Path

import pytest
from matplotlib import pyplot as plt
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.evaluation import html


def test_a_wide_picture_can_scroll_and_a_narrow_one_shrinks(tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    for name, inches in (("wide", 12), ("narrow", 4)):
        plt.figure(figsize=(inches, 2)).savefig(tmp_path / f"plots/{name}.png")
    page = html.page("# x\n\n![a](plots/wide.png)\n\n![b](plots/narrow.png)\n", tmp_path)
    wide, narrow = (part.split(">")[0] for part in page.split("<img ")[1:])
    assert "data:image/png;base64," in wide and 'class="wide"' in wide
    assert "data:image/png;base64," in narrow and "class" not in narrow


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="which is missing: run `dvc repro` or `dvc checkout`"):
        html.page("![a](plots/none.png)", tmp_path)
