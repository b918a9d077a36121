"""Feedback: compared with the last answers, counted once, all or nothing."""

import json
from typing import Any

import bentoml
import numpy as np
import pytest
from my_experiment.harness.capture.answered import Answered, new_id
from my_experiment.harness.capture.contracts import Feedback
from my_experiment.harness.serving import feedback, http
from my_experiment.harness.serving.feedback import Receiver
from my_experiment.harness.serving.model import ModelInfo
from my_experiment.harness.serving.refusal import Refusal
from my_experiment.harness.serving.rows import Rows

INFO = ModelInfo.model_validate(
    {"input": "any", "target": "classification", "sha256": "0123456789abcdef", "classes": ["1", "two", "3"]}
)


class Log:
    """A log that remembers what it is given."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, list[Feedback]]] = []

    def take_feedback(self, time: float, contributor: str, items: list[Feedback]) -> None:
        self.kept.append((contributor, items))


def answered(rows: int = 1, label: int = 0) -> Answered:
    output = np.full((rows, 3), 0.1, np.float32)
    output[:, label] = 0.8
    return Answered(0.0, new_id(), "application/json", b"", {}, output, b"")


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def receiver(log: Log) -> Receiver:
    return Receiver(INFO, 256, log, Rows(INFO.version, None))  # type: ignore[arg-type]


def tell(receiver: Receiver, *items: Any, **headers: str) -> list[str]:
    return receiver.take(json.dumps({"feedback": items}).encode(), headers)


def test_it_is_off_until_it_is_switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Service(http.ModelService):
        """Any."""

    for value in (None, "off", "on"):
        monkeypatch.delenv("SERVICE_FEEDBACK", raising=False)
        if value:
            monkeypatch.setenv("SERVICE_FEEDBACK", value)
        service = bentoml.service(**http.OPTIONS | {"labels": {}})(Service)
        assert ("feedback" in service.apis) == feedback.enabled() == (value == "on")


def test_outcomes_are_in_order_and_counted_once(receiver: Receiver, log: Log) -> None:
    first, second = answered(3, label=1), answered()
    receiver.append(first)
    receiver.append(second)
    items = [
        {"id": first.id, "index": 0, "actual": "two"},
        {"id": first.id, "index": 1, "actual": 1},
        {"id": new_id(), "index": 7, "actual": "3"},
        {"id": second.id, "actual": "1"},
        {"id": second.id, "actual": "3"},
    ]
    told = tell(receiver, *items, **{"x-forwarded-user": "ward\n 3 " + "x" * 100})
    assert told == ["right", "wrong", "unmatched", "right", "repeated"]
    assert tell(receiver, items[0]) == ["repeated"]
    contributor, kept = log.kept[0]
    assert contributor == "ward 3 " + "x" * 57 and log.kept[1][0] == ""
    for name in ("Zoë", "Ā", "Ă", "名前"):  # in UTF-8, as proxies send it; Starlette decodes headers as Latin-1
        tell(receiver, items[0], **{"x-forwarded-user": name.encode().decode("latin-1")})
        assert log.kept[-1][0] == name
    assert kept[1] == Feedback(first.id, 1, "1") and kept[3] == Feedback(second.id, 0, "1") and len(kept) == 5


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([{"id": "KNOWN", "actual": "four"}], r"feedback\[0\].actual: 'four' is none of the classes: 1, two, 3"),
        ([{"id": "KNOWN", "actual": None}], r"feedback\[0\].actual: 'None' is none of the classes"),
        ([{"id": "KNOWN", "actual": True}], r"feedback\[0\].actual: 'True' is none of the classes"),
        ([{"id": "KNOWN", "actual": ["two"]}], r"feedback\[0\].actual: "),
        (
            [{"id": "KNOWN", "actual": "two"}, {"id": "KNOWN", "index": 1, "actual": "two"}],
            r"feedback\[1\].index: ",
        ),
        ([{"id": "KNOWN", "index": -1, "actual": "two"}], r"feedback\[0\].index: "),
        ([{"id": "KNOWN", "index": 0.5, "actual": "two"}], r"feedback\[0\].index: "),
        ([{"id": "x", "actual": "two"}], r"feedback\[0\].id: String should match"),
        ([{"id": "KNOWN"}], r"feedback\[0\].actual: Field required"),
        ([{"id": "KNOWN", "actual": "two", "who": "me"}], r"feedback\[0\].who: Extra"),
        ([], "feedback: "),
        ([{"id": "KNOWN", "actual": "two"}] * 257, "feedback: .* at most 256"),
        ([{"id": "KNOWN", "actual": "two"}] * 10_000, "the body has .* more than JSON of 256 instances"),
    ],
)
def test_what_is_wrong_is_refused_as_a_whole(receiver: Receiver, log: Log, items: Any, message: str) -> None:
    known = answered()
    receiver.append(known)
    sent = [item | {"id": known.id} if item.get("id") == "KNOWN" else item for item in items]
    with pytest.raises(Refusal, match=message) as refused:
        tell(receiver, *sent)
    assert refused.value.status in (400, 413) and "\n" not in str(refused.value) and not log.kept
    assert tell(receiver, {"id": known.id, "actual": "1"}) == ["right"]  # nothing was counted before


def test_numbers_of_classes_that_are_numbers_are_documented() -> None:
    assert INFO.answers.actual_schema(INFO.model_dump()) == {"enum": [*INFO.model_dump()["classes"], 1, 3]}
    names = {"type": "string", "enum": ["a", "01", "\u0661"]}
    assert INFO.answers.actual_schema({"classes": names["enum"]}) == names


def test_the_last_answers_are_remembered_within_a_bound(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "MOST_ANSWERS", 10)
    items = [answered() for _ in range(11)]
    for item in items:
        receiver.append(item)
    told = tell(receiver, *({"id": item.id, "actual": "1"} for item in items))
    assert told == ["unmatched", *["right"] * 10]
    monkeypatch.setattr(feedback, "MOST_BYTES", items[0].output.nbytes)
    receiver.append(answered())
    assert tell(receiver, {"id": items[-1].id, "actual": "1"}) == ["unmatched"]
