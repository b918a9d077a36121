"""Membership inference: how well the loss tells training examples from test examples.

Source: S. Yeom et al., Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting, CSF 2018. An attack
with many models of its own (N. Carlini et al., Membership Inference Attacks From First Principles, S&P 2022) finds
more: what is measured here is a lower bound.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import evaluator
from .metrics import Estimate, Metrics, area, bootstrap, evenly_spaced, interval, true_positive_rate
from .workspace import Predictions, Workspace, predict

if TYPE_CHECKING:
    from .settings import Evaluate

LEAST, MOST = 1_000, 10_000  # sizes of the sample of training examples; MOST also limits the test examples
FALSE_POSITIVES = 0.01  # rate of the test examples that are taken for training examples


class Membership(NamedTuple):
    """How well training examples are recognized.

    Attributes:
        members: Number of training examples.
        others: Number of test examples.
        estimates: `auc`, 0.5 for guessing; `tpr_at_1_percent_fpr`, the fraction of the training examples that are
            recognized if one in a hundred test examples is taken for one, 0.01 for guessing.
    """

    members: int
    others: int
    estimates: Mapping[str, Estimate]


def sampled(train: int, test: int) -> NDArray[np.int64]:
    """Indices of the training examples in the sample: about as many as there are test examples.

    Args:
        train: Number of training examples.
        test: Number of test examples.
    """
    return evenly_spaced(train, min(max(test, LEAST), MOST))


def of_model(workspace: Workspace, test: Predictions, settings: "Evaluate") -> Membership:
    """Measures the model of the workspace, on a sample of its training examples.

    Args:
        workspace: Results of the earlier stages.
        test: Outputs of the exported model on the test split.
        settings: Section `evaluate` of the configuration.

    Raises:
        UserError: If an output is not finite.
    """
    train = predict(workspace, "train", sampled(len(test.train_targets), len(test.targets)))
    members, others = (evaluator(test.manifest).losses(each.outputs, each.targets) for each in (train, test))
    return measure(members, others, settings)


def measure(members: NDArray[np.float64], others: NDArray[np.float64], settings: "Evaluate") -> Membership:
    """Measures how well a low loss tells a training example from a test example.

    Args:
        members: Losses of training examples, [M].
        others: Losses of the test examples, [N]; at most `MOST` are used.
        settings: Section `evaluate` of the configuration.
    """
    others = others[evenly_spaced(len(others), MOST)]
    examples = len(members) + len(others)
    estimates = bootstrap(attack(members, others), examples, settings.resamples, settings.confidence, settings.seed)
    return Membership(len(members), len(others), estimates)


def attack(members: NDArray[np.float64], others: NDArray[np.float64]) -> Metrics:
    """`auc` and `tpr_at_1_percent_fpr` as a function of the weights of members and others, in this order.

    Args:
        members: Losses of training examples, [M].
        others: Losses of test examples, [N].
    """
    scores = -np.concatenate([members, others])
    positive = np.arange(len(scores)) < len(members)
    auc, rate = area(positive, scores), true_positive_rate(positive, scores, FALSE_POSITIVES)
    return lambda weights: {"auc": auc(weights), "tpr_at_1_percent_fpr": rate(weights)}


def section(membership: Membership) -> list[str]:
    """Paragraphs of the model card.

    Args:
        membership: The measured membership inference.
    """
    auc, rate = membership.estimates["auc"], membership.estimates["tpr_at_1_percent_fpr"]
    return [
        "## Privacy of the training examples",
        "Someone who knows an example with its target can guess that it was used in training if the model's loss is "
        f"low. This tells {membership.members:,} training from {membership.others:,} test examples with an AUC of "
        f"{interval(auc)}, where 0.5 is chance. If 1% of the test examples are wrongly accused, it finds a "
        f"fraction of {interval(rate)} of the training examples, where {FALSE_POSITIVES} is chance. This is a lower "
        "bound: attacks that train dozens of models for comparison find more.",
    ]
