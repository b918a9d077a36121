"""Executors: which one is chosen, and what they say is wrong. tests/test_cluster.py has a real cluster."""

import socket
import sys
from collections.abc import Iterable, Iterator

import pytest
from my_experiment.harness import executors
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.executors import local, ray


def double(numbers: Iterable[int]) -> Iterator[int]:
    """The work."""
    yield from (2 * number for number in numbers)


def test_local_is_the_default_and_reads_a_piece_when_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(executors.VARIABLE, raising=False)
    assert executors.executor() is local.run
    upcoming = iter([1, 2, 3])
    results = executors.executor()(double, upcoming)
    assert (next(results), next(upcoming)) == (2, 2)


def test_the_variable_names_the_executor_and_an_option_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(executors.VARIABLE, "ray")
    assert executors.executor() is ray.run
    assert executors.executor("local") is local.run
    monkeypatch.setenv(executors.VARIABLE, "")
    assert executors.executor() is local.run
    monkeypatch.setenv(executors.VARIABLE, "dask")
    with pytest.raises(UserError, match=r"^EXECUTOR: there is no executor 'dask': set it to local or ray, or remove"):
        executors.executor()


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "local"])
def test_ray_takes_the_address_of_a_head(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv(ray.ADDRESS, address)
    with pytest.raises(UserError, match=f"^RAY_ADDRESS: {address!r} is no address of a cluster's head: write host"):
        next(ray.run(double, []))


def test_a_cluster_that_is_not_there_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setenv(ray.ADDRESS, address)
        with pytest.raises(UserError, match=f"^RAY_ADDRESS: no Ray cluster answers at {address}: .*refused"):
            next(ray.run(double, []))


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv(ray.ADDRESS, "auto")
    with pytest.raises(UserError, match=r"^RAY_ADDRESS: ray is not installed: run `uv pip install ray`$"):
        next(ray.run(double, []))
