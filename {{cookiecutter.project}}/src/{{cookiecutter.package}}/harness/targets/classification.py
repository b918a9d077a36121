"""Classification: head, loss and predictions of a classifier."""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Description, Goal, Head, Manifest, Question, Tensor

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float32] | NDArray[np.float64]
OUTPUT = "probabilities"
METRIC = "accuracy"
HIGHER_IS_BETTER = True
FLOOR = float(np.finfo(np.float32).tiny)  # of probabilities whose logarithm is taken


def head(manifest: Manifest, train_targets: Labels) -> Head:
    """Softmax head: p_k = exp(z_k) / sum_j exp(z_j).

    Args:
        manifest: Manifest of the prepared data.
        train_targets: Labels of the training split, int64 [N].
    """

    def apply(x: Tensor) -> Tensor:
        import keras  # takes 10 s, which only `train` needs

        return keras.layers.Dense(len(manifest["classes"]), activation="softmax", name=OUTPUT)(x)

    return apply


def compile_arguments(manifest: Manifest, train_targets: Labels) -> dict[str, Any]:
    """Loss and metric for `keras.Model.compile`: cross-entropy -log p(true class), and accuracy.

    Args:
        manifest: Manifest of the prepared data.
        train_targets: Labels of the training split, int64 [N].
    """
    import keras

    return {"loss": "sparse_categorical_crossentropy", "metrics": [keras.metrics.SparseCategoricalAccuracy(METRIC)]}


def calibrate(outputs: Probabilities, targets: Labels) -> dict[str, Any]:
    """No facts: probabilities are not recalibrated; the metric `ece` measures their calibration."""
    return {}


def decide(outputs: Probabilities, description: Description) -> Labels:
    """Class of each example, int64 [N]: the most probable one, or by threshold or costs of models/decision.json.

    Of more than two classes with costs, it is the one with the lowest expected cost. Source: C. Elkan, The Foundations
    of Cost-Sensitive Learning, IJCAI 2001.

    Args:
        outputs: Probabilities, float [N, K].
        description: Content of models/model.json, with `decision` if there is one.
    """
    decision = description.get("decision", {})
    if "threshold" not in decision:
        expected = outputs.astype(np.float64) @ costs(description) if "costs" in decision else -outputs
        best: Labels = expected.argmin(1)
        return best
    positive = description["classes"].index(decision["class"])
    # In double precision, as in JSON: NumPy would round the threshold to the type of the outputs.
    reached = outputs[:, positive].astype(np.float64) >= decision["threshold"]
    decided: Labels = np.where(reached, positive, 1 - positive)
    return decided


def costs(description: Description) -> NDArray[np.float64]:
    """Cost of each answer to an example of each class, float64 [K, K]: true class by answer.

    Args:
        description: Content of models/model.json, with a `decision` that has costs.
    """
    places = {name: place for place, name in enumerate(description["classes"])}
    found = np.ones((len(places), len(places)))
    for true, cost in description["decision"]["costs"].items():
        if isinstance(cost, dict):
            found[places[true], [places[answer] for answer in cost]] = [*cost.values()]
        else:
            found[places[true]] = cost
    np.fill_diagonal(found, 0)
    return found


def prediction_sets(outputs: Probabilities, description: Description) -> NDArray[np.bool_]:
    """Whether a class is in the prediction set of an example, bool [N, K].

    The set has each class with at least the probability `set_threshold`, and always the decided one. Source: M.
    Sadinle, J. Lei, L. Wasserman, Least Ambiguous Set-Valued Classifiers with Bounded Error Levels, JASA 114, 2019.

    Args:
        outputs: Probabilities, float [N, K].
        description: Content of models/model.json, with a `decision` that has sets.
    """
    members: NDArray[np.bool_] = outputs.astype(np.float64) >= description["decision"]["set_threshold"]
    members[np.arange(len(outputs)), decide(outputs, description)] = True
    return members


def answers(outputs: NDArray[np.float32], description: Description) -> list[dict[str, Any]]:
    """For each example, the class and all probabilities; with a decision, also the prediction set.

    Args:
        outputs: Probabilities, float32 [N, K].
        description: Content of models/model.json, with `decision` if there is one.

    Returns:
        label, None for "not sure"; set, if the decision has sets; probabilities.
    """
    classes, decision = description["classes"], description.get("decision")
    if not decision:
        return [
            {"label": classes[row.index(max(row))], "probabilities": dict(zip(classes, row, strict=True))}
            for row in outputs.tolist()
        ]
    found: list[dict[str, Any]] = [{"label": classes[label]} for label in decide(outputs, description).tolist()]
    if "set_threshold" in decision:
        for item, members in zip(found, prediction_sets(outputs, description).tolist(), strict=True):
            item["set"] = [name for name, member in zip(classes, members, strict=True) if member]
            if decision["abstain"] and len(item["set"]) > 1:
                item["label"] = None
    for item, row in zip(found, outputs.tolist(), strict=True):
        item["probabilities"] = dict(zip(classes, row, strict=True))
    return found


def counts(outputs: NDArray[np.float32], description: Description) -> dict[str, int]:
    """Predicted class -> number of examples, for the service's metrics endpoint; "" for "not sure".

    Args:
        outputs: Probabilities, float32 [N, K].
        description: Content of models/model.json, with `decision` if there is one.
    """
    decided = decide(outputs, description)
    if description.get("decision", {}).get("abstain"):
        decided = np.where(prediction_sets(outputs, description).sum(1) > 1, -1, decided)
    # Not by NumPy's `unique`, which takes ten times as long for a single example.
    labels = Counter(decided.tolist())
    return {description["classes"][label] if label >= 0 else "": count for label, count in labels.items()}


def actual(value: object, description: Description) -> int:
    """The index of an actual class, which a person tells.

    Args:
        value: Name of the class; of classes that are numbers, also the number.
        description: Content of models/model.json.

    Raises:
        ValueError: If there is no such class; the message is one line for the user.
    """
    name = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
    if name not in description["classes"]:
        known = ", ".join(description["classes"][:10]) + (", ..." if len(description["classes"]) > 10 else "")
        raise ValueError(f"{str(value)[:40]!r} is none of the classes: {known}")
    index: int = description["classes"].index(name)
    return index


def actual_schema(description: Description) -> dict[str, Any]:
    """JSON schema of what `actual` takes."""
    names: list[str] = description["classes"]
    numbers = [int(name) for name in names if name.isascii() and name.isdigit() and str(int(name)) == name]
    return {"enum": [*names, *numbers]} if numbers else {"type": "string", "enum": names}


def answer_schema(description: Description) -> dict[str, Any]:
    """JSON schema of an element of `answers`."""
    classes, decision = description["classes"], description.get("decision", {})
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    name = {"type": "string", "enum": classes}
    properties: dict[str, Any] = {"label": name}
    if decision.get("abstain"):
        text = "null: not sure, because the prediction set has several classes"
        # OpenAPI 3.0, which BentoML writes, has no type null.
        properties["label"] = {**name, "enum": [*classes, None], "nullable": True, "description": text}
    if "set_threshold" in decision:
        text = f"The prediction set: it contains the true class of {100 * decision['coverage']:g}% of the examples"
        properties["set"] = {"type": "array", "items": name, "minItems": 1, "description": text}
    properties["probabilities"] = {
        "type": "object",
        "properties": dict.fromkeys(classes, probability),
        "required": classes,
        "additionalProperties": False,
    }
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def log_odds(outputs: Probabilities, labels: Labels | int) -> NDArray[np.float64]:
    """Log-odds of a class in each example, float64 [N]: log p / (1 - p).

    1 - p is the sum of the other probabilities, of which something is left also if p is nearly 1.

    Args:
        outputs: Probabilities, float [N, K].
        labels: The class of each example, int64 [N], or of all.
    """
    others, rows = np.maximum(outputs.astype(np.float64), FLOOR), np.arange(len(outputs))
    own = others[rows, labels]
    others[rows, labels] = 0
    found: NDArray[np.float64] = np.log(own / others.sum(axis=1))
    return found


def question(output: NDArray[np.float32], description: Description) -> Question:
    """What is explained of one answer: the log-odds of the predicted class.

    Args:
        output: Probabilities, float32 [1, K].
        description: Content of models/model.json, with `decision` if there is one.
    """
    label = int(decide(output, description)[0])
    name = description["classes"][label]

    def score(outputs: Probabilities) -> NDArray[np.float64]:
        return log_odds(outputs, label)

    def is_other(outputs: Probabilities) -> NDArray[np.bool_]:
        other: NDArray[np.bool_] = decide(outputs, description) != label
        return other

    goals = [Goal(-1, is_other)]
    return Question(f"log-odds of {name}", score, f"speaks for {name}", f"speaks against {name}", goals)
