"""Robustness of a model of pictures: noise, attacks, natural changes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from . import search

if TYPE_CHECKING:
    from .contracts import Subject

Pictures = NDArray[np.float32]  # [n, H, W, C], values from 0 to 255
Attempts = Iterator[tuple[str, str, float, Pictures]]  # name, title, epsilon, changed pictures
UNIT = "of 255"


def pictures(
    *,
    seed: NonNegativeInt,
    examples: PositiveInt,
    queries: PositiveInt,
    epsilons: Annotated[list[Annotated[float, Field(gt=0, le=255)]], Field(min_length=1)],
    white_box: bool,
) -> None:
    """Writes reports/robustness/ for a classifier of pictures.

    Args:
        seed: Seed of all random numbers.
        examples: Maximum number of test pictures.
        queries: Maximum number of questions of Square for each picture and epsilon.
        epsilons: Largest changes of a value of a pixel, of 255.
        white_box: Whether to attack with the gradients of the Keras model as well, by FGSM and PGD.

    Raises:
        UserError: If the model has no gradients.
    """
    from ..prepared.images import load  # here, not above: the stage `config` reads this signature
    from . import images_changes, images_plots, report, subject
    from .contracts import Study, Trial, middle

    found, epsilons = subject.read(examples), sorted({*epsilons})
    stored = load("test")[found.rows]
    clean = stored.astype(np.float32)
    attempts = [within(found, clean, queries, epsilons, seed)]
    notes = ["Gradients were not used: FGSM and PGD may find worse (`robustness.white_box: true`)."]
    if white_box:
        from . import images_gradients

        attempts.append(images_gradients.attacked(found, clean, epsilons, seed))
        notes = ["FGSM and PGD follow the gradients of the Keras model; the exported one answers."]

    def trial(name: str, title: str, strength: float, changed: Pictures, kept: bool = False) -> Trial:
        if stored.dtype == np.uint8:
            changed = np.rint(changed)  # a file of 8 bits holds no fractions
        return Trial(name, title, strength, found.outputs({"image": changed}), changed if kept else None)

    attacks = [trial(*attempt, kept=attempt[2] == middle(epsilons)) for generated in attempts for attempt in generated]
    changes = [
        trial(name, f"{name.replace('_', ' ')} ({images_changes.CHANGES[name][2]})", strength, changed)
        for name, strength, changed in images_changes.changed(clean, np.random.default_rng(seed))
    ]
    study = Study(found, UNIT, found.outputs({"image": clean}), attacks, changes, notes)
    report.write(study, images_plots.draw(study, clean, seed))


def within(found: "Subject", clean: Pictures, queries: int, epsilons: list[float], seed: int) -> Attempts:
    """Noise and Square within each epsilon.

    A picture that is misclassified within an epsilon is so within every larger one.

    Args:
        found: The examples and the model.
        clean: The unchanged pictures.
        queries: Maximum number of questions for each picture and epsilon.
        epsilons: Largest changes of a value, the smallest first.
        seed: Seed of the noise and of the search.

    Yields:
        Name, title, epsilon and changed pictures.
    """
    from tqdm import tqdm

    def ask(changed: Pictures, places: search.Places) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        outputs, targets = found.outputs({"image": changed}), found.targets[places]
        return found.kind.loss(outputs, targets), found.kind.settled(outputs, targets)

    generator, best = np.random.default_rng(seed), clean
    boxes = [(epsilon, np.maximum(clean - epsilon, 0), np.minimum(clean + epsilon, 255)) for epsilon in epsilons]
    for epsilon, low, high in boxes:
        yield "noise", "random noise", epsilon, search.signs(low, high, generator)
    # None: quiet if stderr is not a terminal.
    with tqdm(total=queries * len(epsilons), desc="robustness", unit=" queries", disable=None) as bar:
        for epsilon, low, high in boxes:
            best = search.search(ask, best, squares(low, high, generator), queries, bar)
            yield "square", f"Square ({queries:,} queries)", epsilon, best


def squares(low: Pictures, high: Pictures, generator: np.random.Generator) -> search.Propose:
    """Proposals of Square: first vertical stripes, then a square at a random place of each picture.

    Its values are at the ends of their intervals, in each channel at the lower or the upper ones.

    Args:
        low: Lower ends, [n, H, W, C].
        high: Upper ends, [n, H, W, C].
        generator: Source of random numbers.
    """
    _, height, width, channels = low.shape

    def propose(best: Pictures, places: search.Places, progress: float) -> Pictures:
        if progress == 0:
            stripes = generator.random((len(best), 1, width, channels)) < 0.5
            return np.where(stripes, low[places], high[places])
        side = max(1, round((search.share(progress) * height * width) ** 0.5))
        tall, broad = min(side, height), min(side, width)
        tops = generator.integers(0, height - tall + 1, len(best))
        lefts = generator.integers(0, width - broad + 1, len(best))
        lower = generator.random((len(best), channels)) < 0.5
        changed = best.copy()
        for index, (place, top, left) in enumerate(zip(places, tops, lefts, strict=True)):
            square = np.s_[top : top + tall, left : left + broad]
            changed[index][square] = np.where(lower[index], low[place][square], high[place][square])
        return changed

    return propose
