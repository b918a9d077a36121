"""The observer: every answer is handed on once and in order, within a bound, also if a consumer fails."""

import logging
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest
from my_experiment.harness.capture.answered import Answered, new_id
from my_experiment.harness.serving import observer
from my_experiment.harness.serving.observer import Observer


def answered(rows: int = 1, size: int = 2) -> Answered:
    feeds = {"x": np.zeros(rows), "y": np.full(rows, "text", object)}
    output = np.zeros((rows, 1), np.float32)
    return Answered(time.time(), new_id(), "application/json", bytes(size), feeds, output, b"{}")


UNWANTED = 7  # rows


class Consumer:
    """A consumer that remembers; told to wait, it keeps the thread until it is released."""

    def __init__(self, error: Exception | None = None, waits: bool = False) -> None:
        self.taken: list[Answered] = []
        self.dropped = self.closed = 0
        self.busy, self.free = threading.Event(), threading.Event()
        self.error = error
        if not waits:
            self.free.set()

    def wants(self, answered: Answered) -> bool:
        return answered.rows != UNWANTED

    def take(self, batch: Sequence[Answered], dropped: int) -> None:
        if batch:  # each second brings one, also without answers
            self.busy.set()
            self.free.wait(10)
        self.taken += batch
        self.dropped += dropped
        if self.error:
            raise self.error

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observer, "PERIOD", 0.01)


def test_an_id_sorts_by_time_and_is_no_other() -> None:
    ids = [new_id() for _ in range(1000)]
    assert ids == sorted(ids) and len({*ids}) == 1000
    assert {len(name) for name in ids} == {32}
    assert int(ids[0][:16], 16) == pytest.approx(time.time_ns(), rel=1e-6)


def test_answers_are_handed_on_once_and_the_last_ones_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    consumers = [Consumer(), Consumer()]
    observing = Observer(consumers)
    for _ in range(5):
        observing.append(answered())
        observing.append(answered(UNWANTED))
    deadline = time.monotonic() + 10
    while len(consumers[1].taken) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    monkeypatch.setattr(observer, "PERIOD", 60)  # only the end hands on from here
    time.sleep(0.05)
    last = answered()
    observing.append(last)
    observing.close()
    for consumer in consumers:
        assert len(consumer.taken) == 6 and consumer.taken[-1] is last
        assert [each.id for each in consumer.taken] == sorted(each.id for each in consumer.taken)
        assert (consumer.dropped, consumer.closed) == (0, 1)


@pytest.mark.parametrize(
    ("size", "room"), [(0, observer.MOST_ANSWERS), (observer.MOST_BYTES // 8, 7), (observer.MOST_BYTES + 1, 1)]
)
def test_what_waits_has_a_bound(size: int, room: int) -> None:
    consumer = Consumer(waits=True)
    observing = Observer([consumer])
    observing.append(answered())
    assert consumer.busy.wait(10)  # the thread has the first one, and waits
    shared = answered(rows=3)._replace(body=bytes(size))
    for _ in range(room + 2):
        observing.append(shared)
    consumer.free.set()
    observing.close()
    assert (len(consumer.taken), consumer.dropped) == (1 + room, 2 * 3)


def test_a_consumer_that_fails_stops_nobody_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    failing, other = Consumer(OSError("no space left\non device")), Consumer()
    observing = Observer([failing, other])
    with caplog.at_level(logging.WARNING, "bentoml"):
        for _ in range(3):
            observing.append(answered())
            time.sleep(0.05)
        observing.close()
    assert len(failing.taken) == len(other.taken) == 3
    assert [record.getMessage() for record in caplog.records] == [
        "answers cannot be counted or kept: OSError: no space left on device"
    ]
