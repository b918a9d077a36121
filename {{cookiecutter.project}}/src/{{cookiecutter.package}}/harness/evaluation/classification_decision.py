"""Decision of a classifier: threshold and prediction sets, from the validation split.

They are written to models/decision.json, from which `targets.classification` makes every answer.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Description
from ..core.errors import UserError, choice, shortened
from ..core.text import escaped, number, table
from ..targets.classification import Labels, Probabilities, costs, decide, prediction_sets
from .metrics import Estimate, Metric, Weighted, bootstrap, interval, mean, share, together
from .workspace import Predictions

if TYPE_CHECKING:
    from .settings import Costs, Decision, Evaluate

SENSITIVITY, COSTS = "evaluate.decision.sensitivity", "evaluate.decision.costs"  # keys of the configuration
CLASSES = 60  # maximum number in a table
_Mask = NDArray[np.bool_]
_Count = Callable[[_Mask, _Mask], tuple[_Mask, _Mask]]  # said, actual -> hits, and the examples that count


def choose(validation: Predictions, settings: "Decision") -> dict[str, Any]:
    """Content of models/decision.json.

    Args:
        validation: Probabilities of the validation split.
        settings: Section `evaluate.decision` of the configuration.

    Returns:
        model: SHA-256 of the model.
        class, threshold: The class that is answered if it has at least this probability, of two.
        costs: Those of the configuration, if they decide.
        coverage, set_threshold: Fraction of the prediction sets that contain the true class, and the probability from
            which a class is in the set.
        abstain: Whether a set of several classes leaves the label open.

    Raises:
        UserError: As `check`, or if the validation split has no example of a class.
    """
    classes, outputs = validation.manifest["classes"], validation.outputs.astype(np.float64)
    check(settings, classes)
    decision: dict[str, Any] = {"model": validation.description["sha256"]}
    if settings.sensitivity:
        [(name, least)] = settings.sensitivity.items()
        decision |= {"class": name, "threshold": sensitive(*_scores(validation, name, SENSITIVITY), least)}
    elif settings.costs:
        decision["costs"] = settings.costs
        if len(classes) == 2:
            wrong = dict(zip(classes, costs({"classes": classes, "decision": decision}).sum(1).tolist(), strict=True))
            name, other = sorted(classes, key=lambda each: -wrong[each])
            scores, actual = _scores(validation, name, COSTS)
            decision |= {"class": name, "threshold": cheapest(scores, actual, wrong[name], wrong[other])}
    if settings.coverage:
        true_class = outputs[np.arange(len(outputs)), validation.targets]
        set_threshold = conformal(true_class, settings.coverage)
        decision |= {"coverage": settings.coverage, "set_threshold": set_threshold, "abstain": settings.abstain}
    return decision


def check(settings: "Decision", classes: Sequence[str]) -> None:
    """Rejects a decision that does not fit the classes.

    Args:
        settings: Section `evaluate.decision` of the configuration.
        classes: Names of the classes.

    Raises:
        UserError: If it names a class that does not exist, or a sensitivity if there are not two.
    """
    if settings.sensitivity:
        _check(settings.sensitivity, classes, SENSITIVITY)
        if len(classes) != 2:
            raise UserError(
                f"{SENSITIVITY}: a threshold needs two classes, these are {len(classes)}: set costs or coverage"
            )
    elif settings.costs:
        _check_costs(settings.costs, classes)


def _check(names: Iterable[str], classes: Sequence[str], key: str) -> None:
    """Rejects names that are no classes."""
    if unknown := [name for name in names if name not in classes]:
        raise UserError(f"{key}: there is no class {unknown[0]!r}; {choice(unknown[0], classes)}")


def _check_costs(named: "Costs", classes: Sequence[str]) -> None:
    """Rejects costs of answers that do not exist, or are right."""
    key = COSTS
    _check(named, classes, key)
    for true, cost in named.items():
        if isinstance(cost, dict):
            _check(cost, classes, f"{key}.{true}")
            if true in cost:
                raise UserError(f"{key}.{true}: {true} is the right answer, which costs nothing: remove it")


def _scores(validation: Predictions, name: str, key: str) -> tuple[NDArray[np.float64], _Mask]:
    """Probability of a class, [N], and whether it is the true one, [N]."""
    positive = validation.manifest["classes"].index(name)
    actual = validation.targets == positive
    if not actual.any() or actual.all():
        raise UserError(f"{key}: the validation split lacks a class: raise prepare.validation")
    return validation.outputs[:, positive].astype(np.float64), actual


def sensitive(scores: NDArray[np.float64], actual: NDArray[np.bool_], least: float) -> float:
    """The highest threshold that finds at least a fraction of the positives.

    Args:
        scores: Probabilities of the class, [N].
        actual: Whether it is the true class, [N].
        least: Fraction of the positives to find.
    """
    positives = np.sort(scores[actual])[::-1]
    # The small offset prevents rounding errors from raising the rank: 0.95 * 60 could be slightly above 57.
    return _below(positives[math.ceil(least * len(positives) - 1e-9) - 1], scores)


def cheapest(scores: NDArray[np.float64], actual: NDArray[np.bool_], missed: float, false_alarm: float) -> float:
    """The threshold with the lowest total cost.

    Of several, it is the nearest to false_alarm / (false_alarm + missed), the best one for true probabilities.
    Source: C. Elkan, The Foundations of Cost-Sensitive Learning, IJCAI 2001.

    Args:
        scores: Probabilities of the class, [N].
        actual: Whether it is the true class, [N].
        missed: Cost of an example of the class that gets the other answer.
        false_alarm: Cost of an example of the other class that gets this answer.
    """
    distinct = np.unique(scores)
    found = len(scores) - np.searchsorted(np.sort(scores), distinct)  # examples with at least this score
    hits = actual.sum() - np.searchsorted(np.sort(scores[actual]), distinct)
    cost = missed * (actual.sum() - hits) + false_alarm * (found - hits)
    best = np.flatnonzero(cost <= cost.min() * (1 + 1e-12))
    middles = (distinct + np.append(0.0, distinct[:-1])) / 2
    nearest = best[np.abs(middles[best] - false_alarm / (false_alarm + missed)).argmin()]
    return _below(distinct[nearest], distinct)


def conformal(true_class: NDArray[np.float64], coverage: float) -> float:
    """The probability from which a class is in the prediction set, by split-conformal calibration.

    It is the ceil((n + 1) coverage)-th largest of the n probabilities of the true class on the validation split; 0, so
    that every class is in the set, if that rank exceeds n.

    Args:
        true_class: Probability of the true class of each validation example, [n].
        coverage: Fraction of the sets that contain the true class.
    """
    rank = math.ceil((len(true_class) + 1) * coverage - 1e-9)
    return _below(np.sort(true_class)[-rank], true_class) if rank <= len(true_class) else 0.0


def _below(score: float, scores: NDArray[np.float64]) -> float:
    """A number between a score and the next lower one, so that rounding of either does not matter."""
    lower = scores[scores < score]
    middle = (score + (lower.max() if len(lower) else 0.0)) / 2
    step = 10.0 ** (math.floor(math.log10(middle)) - 7) if middle else 1.0
    return float(f"{max(0.0, math.floor(middle / step) * step):.8g}")  # eight digits, rounded down


def positive_class(description: Description, classes: Sequence[str]) -> str:
    """The class whose rates are measured: that of the threshold, else the second one.

    Args:
        description: Content of models/model.json, with `decision` if there is one.
        classes: Names of the two classes.
    """
    return str(description.get("decision", {}).get("class", classes[1]))


def rates(description: Description, positive: int) -> dict[str, Metric]:
    """Rates of the answers of two classes: name -> metric of labels and probabilities.

    Args:
        description: Content of models/model.json, with `decision` if there is one.
        positive: Index of the class whose rates they are.
    """

    def rate(title: str, better: str, count: _Count) -> Metric:
        def metric(labels: Labels, probabilities: Probabilities) -> Weighted:
            return share(*count(decide(probabilities, description) == positive, labels == positive))

        def among(labels: Labels, probabilities: Probabilities) -> _Mask:
            return count(decide(probabilities, description) == positive, labels == positive)[1]

        return Metric(title, better, metric, among)

    return {
        "selection_rate": rate("selection rate", "-", lambda said, actual: (said, np.full_like(said, True))),
        "true_positive_rate": rate("true positive rate", "higher", lambda said, actual: (said, actual)),
        "false_positive_rate": rate("false positive rate", "lower", lambda said, actual: (said, ~actual)),
        "specificity": rate("specificity", "higher", lambda said, actual: (~said, ~actual)),
        "precision": rate("precision", "higher", lambda said, actual: (actual, said)),
    }


def metrics(description: Description) -> dict[str, Metric]:
    """Metrics of the decision in models/decision.json; none without it.

    Args:
        description: Content of models/model.json, with `decision` if there is one.
    """
    decision = description.get("decision", {})
    found: dict[str, Metric] = {}
    if "threshold" in decision:
        name, rate = decision["class"], rates(description, description["classes"].index(decision["class"]))
        sensitivity = rate["true_positive_rate"]._replace(title="sensitivity")
        named = {"sensitivity": sensitivity} | {
            key: rate[key] for key in ("specificity", "precision", "selection_rate")
        }
        found |= {key: metric._replace(title=f"{metric.title} ({name})") for key, metric in named.items()}
    if "costs" in decision:
        found["cost"] = Metric("mean cost", "lower", lambda labels, outputs: _cost(labels, outputs, description))
    if "set_threshold" in decision:
        found |= _set_metrics(description)
    return found


def _cost(labels: Labels, probabilities: Probabilities, description: Description) -> Weighted:
    return mean(costs(description)[labels, decide(probabilities, description)])


def _set_metrics(description: Description) -> dict[str, Metric]:
    decision = description["decision"]

    def covered(labels: Labels, probabilities: Probabilities) -> Weighted:
        members = prediction_sets(probabilities, description)
        return mean(members[np.arange(len(labels)), labels].astype(np.float64))

    def size(labels: Labels, probabilities: Probabilities) -> Weighted:
        return mean(prediction_sets(probabilities, description).sum(1).astype(np.float64))

    def answered(labels: Labels, probabilities: Probabilities) -> Weighted:
        return mean((prediction_sets(probabilities, description).sum(1) == 1).astype(np.float64))

    def right(labels: Labels, probabilities: Probabilities) -> Weighted:
        sure = prediction_sets(probabilities, description).sum(1) == 1
        return share(decide(probabilities, description) == labels, sure)

    goal = f"at least {number(decision['coverage'])}"
    found = {
        "coverage": Metric("coverage of the prediction sets", goal, covered),
        "set_size": Metric("classes in a prediction set", "lower, 1 at least", size),
    }
    if decision["abstain"]:
        found["answered"] = Metric("answered, not left open", "higher", answered)
        found["answered_accuracy"] = Metric("accuracy of the answered", "higher", right)
    return found


def section(test: Predictions, estimates: Mapping[str, Estimate], settings: "Evaluate") -> list[str]:
    """Paragraphs of the model card; none without a decision.

    Args:
        test: Probabilities of the test split.
        estimates: Metric -> estimate on the test split.
        settings: Section `evaluate` of the configuration.
    """
    decision = test.description.get("decision")
    if not decision or settings.decision is None:
        return []
    paragraphs = ["## Decision"]
    if "threshold" in decision:
        paragraphs.append(_threshold(test.description, estimates, settings.decision))
    elif "costs" in decision:
        paragraphs.append(_cheapest(test, estimates))
    if "set_threshold" in decision:
        paragraphs += _sets(test, settings)
    return paragraphs


def _cheapest(test: Predictions, estimates: Mapping[str, Estimate]) -> str:
    usual = costs(test.description)[test.targets, test.outputs.argmax(1)].mean()
    named = [
        f"{number(one)} for {escaped(answer)} instead of {escaped(true)}"
        for true, cost in test.description["decision"]["costs"].items()
        for answer, one in (cost if isinstance(cost, dict) else {"anything": cost}).items()
    ]
    return (
        "The answer is the class with the lowest expected cost, by the probabilities of all classes. A wrong answer "
        f"costs {shortened(named)}, any other 1. On the test split, the mean cost is {interval(estimates['cost'])}; "
        f"with the most probable class, it would be {number(float(usual), 3)}. It is as good as the probabilities are, "
        "see the calibration error. Accuracy, F1, confusion matrix and mistakes in this card are those of the most "
        "probable class."
    )


def _threshold(description: Description, estimates: Mapping[str, Estimate], settings: "Decision") -> str:
    decision, name = description["decision"], escaped(description["decision"]["class"])
    if settings.sensitivity:
        [least] = settings.sensitivity.values()
        goal = f"the highest that finds {number(least)} of the examples of {name}"
    else:
        wrong = zip(costs(description).sum(1).tolist(), description["classes"], strict=True)
        named = ", ".join(f"{number(cost)} for one of {escaped(of)}" for cost, of in wrong)
        goal = f"the one with the lowest cost of wrong answers ({named})"
    return (
        f"The answer is {name} if its probability is at least {number(decision['threshold'])}: of all thresholds "
        f"{goal}, on the validation split. On the test split, it finds {interval(estimates['sensitivity'])} of them, "
        f"and {interval(estimates['precision'])} of the answers {name} are right. Accuracy, F1, confusion matrix and "
        "mistakes in this card are those of the most probable class, whatever the threshold."
    )


def _sets(test: Predictions, settings: "Evaluate") -> list[str]:
    decision, classes = test.description["decision"], test.manifest["classes"]
    measured, rows = metrics(test.description), []
    of_sets = {key: measured[key] for key in ("coverage", "set_size")}
    for index, name in enumerate(classes[:CLASSES]):
        mask = test.targets == index
        examples = int(mask.sum())
        if examples:
            function = together(of_sets, test.targets[mask], test.outputs[mask])
            found = bootstrap(function, examples, settings.resamples, settings.confidence, settings.seed)
            rows.append((name, examples, *(interval(found[key]) for key in of_sets)))
    abstain = ' With several classes in it, the answer is "not sure" (null).' if decision["abstain"] else ""
    if not decision["set_threshold"]:
        least = math.ceil(decision["coverage"] / (1 - decision["coverage"]) - 1e-9)
        abstain += (
            " **With a threshold of 0, every set has all classes: this coverage needs a validation split of at least "
            f"{least:,} examples, and a model that gives no true class a probability of 0.**"
        )
    more = f" The table shows the first {CLASSES} of {len(classes)} classes." if len(classes) > CLASSES else ""
    return [
        "An answer has a prediction set: each class with a probability of at least "
        f"{number(decision['set_threshold'])} (split-conformal, from the validation split). It contains the true class "
        f"of {100 * decision['coverage']:g}% of new examples of the same kind: on average over all classes, not in "
        f"each.{abstain}{more}",
        "\n".join(table(("class", "examples", "coverage", "classes in a set"), rows)),
    ]
