"""Tests of imports of large packages."""

import gc
import sys
from collections.abc import Iterator

import pytest
from my_experiment.harness.core.imports import permanent

MODULE = "this"  # of the standard library, imported by nobody


@pytest.fixture(autouse=True)
def thawed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The collector as it is at the start of a process, and the module not yet imported."""
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.enable()


def test_what_was_imported_is_not_looked_through_and_what_follows_is() -> None:
    with permanent():
        assert not gc.isenabled()
        import this
    frozen = gc.get_freeze_count()
    assert gc.isenabled() and frozen
    assert not any(known is vars(this) for known in gc.get_objects())
    with permanent():
        import this
    assert gc.get_freeze_count() <= frozen  # nothing new: what this process has made meanwhile may be garbage


def test_an_import_that_fails_leaves_the_collector_on() -> None:
    with pytest.raises(ImportError, match="none"), permanent():
        raise ImportError("none")
    assert gc.isenabled() and not gc.get_freeze_count()


def test_a_process_without_a_collector_goes_on_without() -> None:
    gc.disable()
    with permanent():
        pass
    assert not gc.isenabled()
