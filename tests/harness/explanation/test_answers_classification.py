"""Answers of a classifier in words."""

from my_experiment.harness.explanation import classification


def test_an_answer_that_is_not_certain_does_not_read_so() -> None:
    said = classification.answer({"label": "a", "probabilities": {"a": 0.9997, "b": 0.0003}})
    assert said == "a (> 99.9%)"
