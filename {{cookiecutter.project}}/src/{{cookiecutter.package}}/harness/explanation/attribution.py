"""SHAP, LIME and occlusion of one example: what each part adds to the model's answer.

All three ask the same question of the same function, a `Game`: what is the answer if some parts are the example's and
the others are the background's?
"""

import math
import os
import sys
import zlib
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.imports import permanent
from ..exported.inference import Predict
from .contracts import Answers, Examples, Game
from .plan import EXACT, orders, samples

KERNEL = 0.25  # width of LIME's kernel, as in its explainer of pictures


def game(examples: Examples, predict: Predict, answers: Answers, row: int, output: int) -> Game:
    """The answer for an example as a function of the parts that are its own.

    Args:
        examples: The test examples, divided into parts.
        predict: The exported model.
        answers: The explained answers.
        row: Row of the test split.
        output: Index of the explained output.
    """

    def answer(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
        scores = answers.scores(predict(examples.masked(row, masks)), output)
        mean: NDArray[np.float64] = scores.reshape(len(masks), -1).mean(axis=1)
        return mean

    return answer


def seed(examples: Examples, row: int, number: int) -> int:
    """A seed that depends on the example's content alone, not on its row or on what ran before.

    Args:
        examples: The test examples, divided into parts.
        row: Row of the test split.
        number: Number of the seed, to have several.
    """
    return zlib.crc32(examples.content(row), number)


def shap(answer: Game, parts: int, seed: int) -> NDArray[np.float64]:
    """SHAP values of each part, float64 [P]: exact for few parts, else from random orders.

    Source: S. Lundberg, S.-I. Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017.

    Args:
        answer: The answer as a function of masks.
        parts: Number of parts.
        seed: Seed of the orders.
    """
    shap = library()
    absent, present = np.zeros((1, parts)), np.ones((1, parts))

    def evaluate(masks: NDArray[np.float64]) -> NDArray[np.float64]:
        return answer(masks > 0.5)

    if parts <= EXACT:
        found = shap.ExactExplainer(evaluate, absent)(present, silent=True)
    else:
        explainer = shap.PermutationExplainer(evaluate, absent, seed=seed)
        found = explainer(present, max_evals=orders(parts) * (2 * parts + 1), silent=True)
    return steady(np.asarray(found.values[0], np.float64))


@cache
def library() -> Any:
    """The library shap, imported without numba's compiler, which on Python 3.11 takes longer than all explanations.

    Other libraries in this process keep the compiler: ART cannot be imported without it.
    """
    compile_with_numba(False)
    with permanent():
        import shap

    compile_with_numba(True)
    return shap


def compile_with_numba(enabled: bool) -> None:
    """Switches numba's compiler on or off for what is imported next.

    Args:
        enabled: Whether to compile.
    """
    os.environ["NUMBA_DISABLE_JIT"] = str(int(not enabled))
    if numba := sys.modules.get("numba"):
        numba.config.reload_config()


def lime(answer: Game, parts: int, seed: int) -> tuple[NDArray[np.float64], float]:
    """LIME: weights of a linear model near the example, float64 [P], and its R2 there.

    Parts are present or absent, as in LIME's explainer of pictures. Its explainer of tables cannot take missing values.
    Source: M. T. Ribeiro et al., "Why Should I Trust You?", KDD 2016.

    Args:
        answer: The answer as a function of masks.
        parts: Number of parts.
        seed: Seed of the masks.
    """
    from lime.lime_base import LimeBase

    if parts == 1:  # a line through two points; LIME's weights would leave next to nothing of the second
        return occlusion(answer, parts), 1.0
    random = np.random.RandomState(seed)
    masks = random.randint(0, 2, (samples(parts), parts))
    masks[0] = 1
    distances = 1 - np.sqrt(masks.sum(axis=1) / parts)  # of the cosine to the first
    base = LimeBase(lambda distance: np.sqrt(np.exp(-(distance**2) / KERNEL**2)), random_state=random)
    labels = answer(masks == 1)[:, None]
    _, weights, fit, _ = base.explain_instance_with_data(masks, labels, distances, 0, parts, feature_selection="none")
    return steady(np.array([weight for _, weight in sorted(weights)], np.float64)), float(fit)


def occlusion(answer: Game, parts: int) -> NDArray[np.float64]:
    """What the answer loses if one part is replaced, float64 [P].

    Args:
        answer: The answer as a function of masks.
        parts: Number of parts.
    """
    masks = np.concatenate([np.ones((1, parts), np.bool_), ~np.eye(parts, dtype=np.bool_)])
    found = answer(masks)
    return steady(found[0] - found[1:])


def steady(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values without their last digits, which differ between processors and would decide which of two equals is first.

    Args:
        values: Effects, float64 [P].
    """
    largest = float(np.abs(values).max())
    digits = 10 - math.ceil(math.log10(largest)) if largest else 0
    return values.round(min(digits, 300))
