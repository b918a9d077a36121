"""Tests of the explanations themselves, in every run.

Sources: W. Samek et al., Evaluating the Visualization of What a Deep Neural Network Has Learned, TNNLS 2017 (deletion);
J. Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018 (random weights).
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from ..core.paths import MODELS
from ..exported import inference
from .contracts import Explanation, Game, Results
from .plan import EXACT, ORDERS, SEEDS, WEIGHTED, WEIGHTS
from .ranks import mean_correlation
from .subject import Subject

TOP = 5  # number of strongest parts that are compared between seeds
NEGLIGIBLE = 0.05  # of the largest effect: the order of still smaller ones is noise


class Check(NamedTuple):
    """A test of the explanations.

    Attributes:
        key: Its name in values.json.
        name: What is tested.
        found: The measure; None if it is not defined here.
        limit: The limit of the measure, in words.
        passed: Whether the measure is within the limit; True if it is not defined.
        meaning: What a failure means.
    """

    key: str
    name: str
    found: float | None
    limit: str
    passed: bool
    meaning: str


def at_most(key: str, name: str, found: float, limit: float, meaning: str) -> Check:
    """A test whose measure has an upper limit; NaN is not defined."""
    defined = bool(np.isfinite(found))
    return Check(key, name, found if defined else None, f"at most {limit:g}", not defined or found <= limit, meaning)


def at_least(key: str, name: str, found: float, limit: float, meaning: str) -> Check:
    """A test whose measure has a lower limit; NaN is not defined."""
    defined = bool(np.isfinite(found))
    return Check(key, name, found if defined else None, f"at least {limit:g}", not defined or found >= limit, meaning)


def additivity(explanations: Sequence[Explanation]) -> Check:
    """Whether base and effects add up to the answer, relative to the answer's size."""
    error = max(abs(e.base + float(e.shap.sum()) - e.answer) / max(1.0, abs(e.answer)) for e in explanations)
    name = "SHAP values add up to the answer (largest error; answers have seven digits)"
    return at_most("additivity", name, error, 1e-5, "they are wrong")


def deletion(answers: Iterable[Game], explanations: Sequence[Explanation], seed: int) -> Check:
    """Whether the answer falls faster if the parts that raise it most go first.

    The measure is the fraction of examples for which the mean answer along the way is below that of random orders.
    """
    random, below = np.random.default_rng(seed), []
    for answer, explanation in zip(answers, explanations, strict=True):
        parts = len(explanation.shap)
        orders = [np.argsort(-explanation.shap, kind="stable"), *(random.permutation(parts) for _ in range(ORDERS))]
        # Row k of a triangle has the first k parts deleted.
        masks = [np.argsort(order)[None, :] >= np.arange(parts + 1)[:, None] for order in orders]
        areas = answer(np.concatenate(masks)).reshape(len(orders), parts + 1).mean(axis=1)
        below.append(bool(areas[0] <= areas[1:].mean() + 1e-9))
    meaning = "replacing what is said to matter most changes the answer no more than replacing anything else"
    name = "Replacing what matters most first lowers the answer faster than a random order (fraction of examples)"
    return at_least("deletion", name, float(np.mean(below)), 0.95, meaning)


def randomized(explanations: Sequence[Explanation], others: Iterable[NDArray[np.float64]]) -> Check:
    """Whether another model, with random weights, has other explanations.

    The correlation is signed: sizes alone follow the content of an example, such as its ink, under any weights.

    Args:
        explanations: Of the model.
        others: SHAP values of these examples in turn, each for another model with random weights.
    """
    pairs = zip(itertools.cycle(explanations), others, strict=False)
    found = mean_correlation((explanation.shap, other) for explanation, other in pairs)
    meaning = "they show the examples rather than what the model has learned"
    return at_most("randomized", "Random weights change the explanations (mean rank correlation)", found, 0.3, meaning)


def agreement(explanations: Sequence[Explanation]) -> Check:
    """Whether SHAP and LIME rank the parts alike, of those that matter to one of them."""
    pairs = []
    for values in ((explanation.shap, explanation.lime) for explanation in explanations):
        sizes = [np.abs(one) / (np.abs(one).max() or 1) for one in values]
        parts = np.maximum(*sizes) > NEGLIGIBLE
        pairs.append((values[0][parts], values[1][parts]))
    found = mean_correlation(pairs)
    meaning = "two methods disagree on what matters: rely on neither for a single example"
    return at_least("agreement", "SHAP and LIME agree (mean rank correlation)", found, 0.5, meaning)


def stability(name: str, values: Iterable[Sequence[NDArray[np.float64]]]) -> Check:
    """Whether other seeds have the same strongest parts.

    Args:
        name: Name of the method.
        values: For each example, the values of each part for several seeds.
    """
    shares = [
        len({*strongest(first)} & {*strongest(second)}) / len(strongest(first))
        for seeds in values
        for first, second in itertools.combinations(seeds, 2)
    ]
    meaning = "the method's own randomness decides what seems to matter most"
    label = f"{name} finds the same {TOP} strongest effects with another seed (mean fraction)"
    return at_least(f"stability_{name.lower()}", label, float(np.mean(shares)), 0.6, meaning)


def strongest(values: NDArray[np.float64]) -> list[int]:
    """Indices of the parts with the largest effects, the strongest first."""
    order: list[int] = np.argsort(-np.abs(values), kind="stable")[:TOP].tolist()
    return order


def random_weights(model: bytes, seed: int) -> bytes | None:
    """The model with random weights of the same size; None if it has none.

    The encoding of a table and the biases stay, so that only what was learned about the inputs is lost.

    Args:
        model: Content of an ONNX file.
        seed: Seed of the weights.
    """
    graph, random, changed = onnx.load_model_from_string(model), np.random.default_rng(seed), False
    constants = {constant.name: constant for constant in graph.graph.initializer}
    for node in graph.graph.node:
        if node.op_type in WEIGHTED:
            for name in node.input[:2]:
                if name in constants and (weights := numpy_helper.to_array(constants[name])).dtype.kind == "f":
                    size = float(np.sqrt(np.mean(weights.astype(np.float64) ** 2)))
                    drawn = random.normal(0, size, weights.shape).astype(weights.dtype)
                    constants[name].CopyFrom(numpy_helper.from_array(drawn, name))
                    changed = True
        elif node.op_type == "TreeEnsemble":
            for attribute in node.attribute:
                if attribute.name == "leaf_weights":
                    drawn = random.permutation(numpy_helper.to_array(attribute.t))
                    attribute.t.CopyFrom(numpy_helper.from_array(drawn, attribute.t.name))
                    changed = True
    return graph.SerializeToString() if changed else None


def run(subject: Subject, results: Results) -> list[Check]:
    """All tests, on the examples that are shown.

    Args:
        subject: What is explained.
        results: What was found.
    """
    shown = [*results.worst, *results.typical]
    games = [subject.game(explanation.row, explanation.output) for explanation in shown]
    pairs = list(zip(games, shown, strict=True))
    seeds = range(1, SEEDS)
    found = [additivity([*results.explanations, *shown]), deletion(games, shown, subject.seed)]
    found.append(randomized(shown, _with_random_weights(subject, shown)))
    found.append(agreement(shown))
    if len(subject.examples.parts) > EXACT:  # else SHAP has no seed
        values = ([e.shap, *(subject.shap(answer, e.row, seed) for seed in seeds)] for answer, e in pairs)
        found.append(stability("SHAP", values))
    values = ([e.lime, *(subject.lime(answer, e.row, seed)[0] for seed in seeds)] for answer, e in pairs)
    found.append(stability("LIME", values))
    return found


def _with_random_weights(subject: Subject, shown: Sequence[Explanation]) -> Iterator[NDArray[np.float64]]:
    """SHAP values of the examples in turn, each for another model with random weights."""
    model = (MODELS / "model.onnx").read_bytes()
    for number, explanation in enumerate([*shown] * WEIGHTS):
        if changed := random_weights(model, subject.seed + number):
            answer = subject.game(explanation.row, explanation.output, inference.predictor(changed))
            yield subject.shap(answer, explanation.row)
