"""Stage `prepare` on pictures: files that cannot be used stop it or are dropped; nothing leaks between splits."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from my_experiment.harness import prepared
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.evaluation import images as evaluation_images
from my_experiment.harness.prepared import images
from my_experiment.stages import prepare
from PIL import Image
from support import PACKAGE, picture_names

Draw = Callable[..., Path]
PICTURES = Path("data/raw/images")


@pytest.fixture
def run(workspace: Path, draw: Draw) -> Callable[..., dict[str, Any]]:
    """Runs the stage on 2 x 30 pictures and what the test has added; returns reports/data.json."""
    for label, name in enumerate(("cat", "dog")):
        for number in range(30):
            draw(PICTURES / name / f"{number:02}.png", seed=100 * label + number)

    def run(path: str = str(PICTURES), on_invalid: str = "stop", seed: int = 0, **more: str) -> dict[str, Any]:
        data = {
            "_target_": f"{PACKAGE}.data.images.image_folder",
            "path": path,
            "image_size": [7, 9],
            "channels": 3,
            "max_pixels": 10_000,
            "on_invalid": on_invalid,
            **more,
        }
        section = {"seed": seed, "validation": 0.3, "test": 0.3}
        Path("params.yaml").write_text(yaml.safe_dump({"data": data, "prepare": section}), encoding="utf-8")
        prepare.main()
        report: dict[str, Any] = json.loads(Path("reports/data.json").read_text(encoding="utf-8"))
        return report

    return run


def splits() -> dict[str, str]:
    """Name -> split of every prepared example."""
    return {name: split for split in prepared.SPLITS for name in picture_names(split)}


def test_good_pictures_are_prepared(run: Callable[..., dict[str, Any]]) -> None:
    report = run()
    assert sum(report["examples"].values()) == len(splits()) == 60
    assert {name: sum(report["classes"][split][name] for split in prepared.SPLITS) for name in ("cat", "dog")} == {
        "cat": 30,
        "dog": 30,
    }
    assert (report["skipped"], report["duplicates"]) == (0, 0)


def test_the_same_data_give_the_same_bytes(run: Callable[..., dict[str, Any]]) -> None:
    def written() -> dict[Path, bytes]:
        return {
            file: file.read_bytes() for folder in ("data/prepared", "reports") for file in Path(folder).rglob("*.*")
        }

    run()
    first = written()
    run()
    assert written() == first


def test_more_pictures_move_none(run: Callable[..., dict[str, Any]], draw: Draw) -> None:
    run()
    before = splits()
    for number in range(10):
        draw(PICTURES / f"cat/0{number}-more.png", seed=500 + number)
    (PICTURES / "dog/00.png").rename(PICTURES / "dog/renamed.png")
    run()
    after = splits()
    after["dog/00.png"] = after.pop("dog/renamed.png")
    assert len(after) == 70
    assert before.items() <= after.items()


def test_sizes_are_kept_if_a_picture_is_resized(run: Callable[..., dict[str, Any]], draw: Draw) -> None:
    run()
    assert not list(prepared.PREPARED.rglob("sizes.npy"))
    assert (images.sizes("train") == [7, 9]).all() and len(images.sizes("train")) == len(images.load("train"))
    for number in range(12):
        draw(PICTURES / "cat" / f"large{number}.png", seed=500 + number, size=(30, 20))
    run()
    for split in prepared.SPLITS:
        expected = [[20, 30] if "large" in name else [7, 9] for name in picture_names(split)]
        assert images.sizes(split).tolist() == expected
    groups = evaluation_images.groups("size", prepared.manifest())
    large = ["large" in name for name in picture_names("test")]
    assert {name: mask.tolist() for name, mask in groups.items()} == {
        "size 63": np.logical_not(large).tolist(),
        "size 600": large,
    }


def test_another_seed_moves_some(run: Callable[..., dict[str, Any]]) -> None:
    run()
    before = splits()
    run(seed=1)
    assert splits() != before


@pytest.fixture
def broken(run: object) -> list[str]:
    """Files that cannot be used, in the order in which they are read."""
    (PICTURES / "cat/empty.png").write_bytes(b"")
    (PICTURES / "dog/notes.txt").write_text("brown fur", encoding="utf-8")
    return [str(PICTURES / "cat/empty.png"), str(PICTURES / "dog/notes.txt")]


def test_it_stops_at_files_that_cannot_be_used(
    run: Callable[..., dict[str, Any]], broken: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"^2 of 62 files cannot be used.*data\.on_invalid: drop") as error:
        run()
    assert "\n" not in str(error.value)
    reported = [
        line.split(": ")[1] for line in capsys.readouterr().err.splitlines() if line.startswith("prepare: data")
    ]
    assert reported == broken
    assert not Path("reports/data.json").exists()


def test_it_drops_files_that_cannot_be_used(
    run: Callable[..., dict[str, Any]], broken: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(on_invalid="drop")
    assert sum(report["examples"].values()) == 60
    assert report["skipped"] == 2
    assert [path for path, _ in report["skipped_files"]] == broken
    output = capsys.readouterr().err
    assert all(f"prepare: {path}: " in output for path in broken)


@pytest.mark.parametrize("how", ["random", "stratified"])
def test_one_16_bit_picture_makes_all_splits_float32(run: Callable[..., dict[str, Any]], how: str) -> None:
    run(split=how)
    before = {split: images.load(split) for split in prepared.SPLITS}
    names = {split: picture_names(split) for split in prepared.SPLITS}
    samples = np.arange(63, dtype=np.uint16).reshape(7, 9) * 65  # 12 bits
    Image.fromarray(samples).save(PICTURES / "dog/deep.png")
    run(split=how)
    manifest = prepared.manifest()
    for split in prepared.SPLITS:
        pixels, labels = images.load(split), prepared.targets(split)
        assert pixels.dtype == np.float32 and pixels.shape == (len(labels), 7, 9, 3)
        rows = [row for row, name in enumerate(picture_names(split)) if name != "dog/deep.png"]
        np.testing.assert_array_equal(pixels[rows], before[split])
        assert [picture_names(split)[row] for row in rows] == names[split]
        content = hashlib.sha256()
        for picture, label in zip(pixels, labels, strict=True):
            content.update(picture.tobytes() + int(label).to_bytes(4))
        assert content.hexdigest() == manifest["digests"][split]
    row = picture_names(splits()["dog/deep.png"]).index("dog/deep.png")
    np.testing.assert_allclose(images.load(splits()["dog/deep.png"])[row][..., 0] * 257, samples, rtol=1e-6)


def test_duplicates_lie_in_one_split(run: Callable[..., dict[str, Any]]) -> None:
    for number in range(30):
        (PICTURES / f"cat/{number:02}-copy.png").write_bytes((PICTURES / f"cat/{number:02}.png").read_bytes())
    report = run()
    assert report["duplicates"] == 30
    assert sorted(report["duplicate_files"])[0] == ["cat/00.png", "cat/00-copy.png"]
    by_name = splits()
    for copy, original in report["duplicate_files"]:
        assert by_name[copy] == by_name[original]


def test_one_picture_under_two_classes_is_a_problem(
    run: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    (PICTURES / "dog/00.png").write_bytes((PICTURES / "cat/00.png").read_bytes())
    with pytest.raises(UserError, match=r"^1 of 60 files"):
        run()
    assert "dog/00.png: is the same picture as cat/00.png, under another class" in capsys.readouterr().err
    report = run(on_invalid="drop")
    assert report["skipped"] == 1
    assert "dog/00.png" not in splits()


def test_a_split_without_a_class_is_refused(run: Callable[..., dict[str, Any]], draw: Draw) -> None:
    draw(PICTURES / "bird/1.png", seed=900)
    with pytest.raises(UserError, match=r"class 'bird' has no example in split \w+; class 'bird' has no example"):
        run()


def test_a_stratified_split_has_every_class_everywhere(run: Callable[..., dict[str, Any]], draw: Draw) -> None:
    run()
    before = {file: file.read_bytes() for file in prepared.PREPARED.rglob("*.*")}
    run(split="stratified")
    assert {file: file.read_bytes() for file in prepared.PREPARED.rglob("*.*")} == before
    by_name = splits()
    for number in range(3):
        draw(PICTURES / f"bird/{number}.png", seed=900)  # one picture, three times
    with pytest.raises(UserError, match=r"bird.*: a class needs 3 different examples, one for each split"):
        run(split="stratified")
    for number in range(3):
        draw(PICTURES / f"bird/{number}.png", seed=920 + number)
    with pytest.raises(UserError, match=r"bird.*: set data\.split: stratified in conf/data/"):
        run()
    report = run(split="stratified")
    assert [report["classes"][split]["bird"] for split in prepared.SPLITS] == [1, 1, 1]
    assert by_name.items() <= splits().items()


def test_an_empty_class_is_refused(run: Callable[..., dict[str, Any]]) -> None:
    (PICTURES / "bird").mkdir()
    with pytest.raises(UserError, match="class 'bird' has no example in split train"):
        run()


def test_data_that_dvc_does_not_watch_are_refused(run: Callable[..., dict[str, Any]]) -> None:
    PICTURES.rename("elsewhere")
    with pytest.raises(UserError, match=r"^data\.path: elsewhere is not a dependency of the stage.*dvc\.yaml$"):
        run("elsewhere")
