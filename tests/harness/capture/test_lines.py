"""The sample, the lines of feedback, and hashes of private values."""

from my_experiment.harness.capture.answered import new_id
from my_experiment.harness.capture.contracts import Feedback, Privacy
from my_experiment.harness.capture.lines import feedback_line, sampled


def test_a_sample_is_a_fraction_alike_in_all_processes() -> None:
    ids = [new_id() for _ in range(10_000)]
    tenth = [id for id in ids if sampled(id, 0.1)]
    assert 850 < len(tenth) < 1150
    assert {*tenth} < {id for id in ids if sampled(id, 0.5)}
    assert all(sampled(id, 1.0) for id in ids) and not any(sampled(id, 0.0) for id in ids)
    # On any machine: replicas agree.
    assert [number for number in range(20) if sampled(f"{number:032x}", 0.3)] == [2, 4, 5, 10, 16, 18]


def test_feedback_is_a_line() -> None:
    told = feedback_line(1.5, "ward 3", [Feedback("ab", 0, "yes"), Feedback("ab", 1, 2.5)])
    assert told == (
        b'{"time":1.5,"contributor":"ward 3","feedback":'
        b'[{"id":"ab","index":0,"actual":"yes"},{"id":"ab","index":1,"actual":2.5}]}\n'
    )


def test_a_hash_needs_the_key() -> None:
    first, second = Privacy({"name": "hash"}, b"1" * 32), Privacy({"name": "hash"}, b"2" * 32)
    assert first.hash("Ada") == first.hash("Ada") != second.hash("Ada")
    assert first.hash(None) is None
    assert first.kept({"name": "Ada", "age": 36}) == {"name": first.hash("Ada"), "age": 36}
    assert Privacy({"name": "drop"}).kept({"name": "Ada", "age": 36}) == {"age": 36}
