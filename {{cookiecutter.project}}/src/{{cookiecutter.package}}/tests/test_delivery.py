"""Tests of what is committed for the delivery."""

from ..harness.delivery import write


def test_gates_are_written_from_their_configuration() -> None:
    written = write.PATH.read_text(encoding="utf-8")
    assert written == write.text(), f"{write.PATH} is stale: run `make monitoring`, and commit what it writes"
