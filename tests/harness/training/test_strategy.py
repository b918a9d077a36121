"""Workers: who they are, and that they wait for each other."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from my_experiment.harness.core import errors
from my_experiment.harness.training import rendezvous, strategy
from processes import running
from support import PACKAGE, ROOT

WORKERS = {"worker": ["a:1", "b:1"]}


@pytest.mark.parametrize(
    ("text", "rank"),
    [
        (json.dumps({"cluster": WORKERS, "task": {"type": "worker", "index": 1}}), 1),
        (json.dumps({"cluster": {**WORKERS, "chief": ["c:1"]}, "task": {"type": "chief", "index": 0}}), 0),
        (json.dumps({"cluster": {**WORKERS, "chief": ["c:1"]}, "task": {"type": "worker", "index": 0}}), 1),
    ],
)
def test_workers_are_those_of_tf_config(text: str, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    assert strategy.cluster().rank == rank
    assert strategy.follows({"strategy": {"distribution": "multi_worker"}}) is (rank > 0)
    assert not strategy.follows({"strategy": {"distribution": "none"}})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        json.dumps({"cluster": WORKERS}),
        json.dumps({"cluster": WORKERS, "task": None}),
        json.dumps({"cluster": WORKERS, "task": {"type": "worker", "index": 2}}),
        json.dumps({"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}),
        json.dumps({"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}),
    ],
)
def test_a_broken_tf_config_is_one_line(text: str) -> None:
    with pytest.raises(errors.UserError, match=r"^TF_CONFIG: .*give each worker") as error:
        strategy.from_tf_config(text)
    assert "\n" not in str(error.value)


def test_workers_are_those_of_a_slurm_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name in strategy.SLURM:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(errors.UserError, match="the environment names no workers"):
        strategy.cluster()
    step = {
        "SLURM_JOB_ID": "1",
        "SLURM_STEP_ID": "2",
        "SLURM_PROCID": "3",
        "SLURM_STEP_NUM_TASKS": "7",
        "SLURM_STEP_NODELIST": "gpu[09-10,12],login",
        "SLURM_STEP_TASKS_PER_NODE": "2(x3),1",
    }
    for name, value in step.items():
        monkeypatch.setenv(name, value)
    workers, rank = strategy.cluster()
    hosts = ["gpu09", "gpu09", "gpu10", "gpu10", "gpu12", "gpu12", "login"]
    assert [worker.partition(":")[0] for worker in workers] == hosts
    assert len(set(workers)) == 7
    assert rank == 3
    with pytest.raises(errors.UserError, match="set TF_CONFIG"):
        strategy.from_slurm({**step, "SLURM_STEP_NUM_TASKS": "6"})


def addresses(count: int) -> tuple[str, ...]:
    """Ports of the loopback interface that nobody listens on."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = tuple(f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes)
    for probe in probes:
        probe.close()
    return found


def test_workers_wait_for_each_other() -> None:
    workers, arrived = addresses(3), []

    def gather(rank: int) -> None:
        rendezvous.gather(strategy.Cluster(workers, rank))
        arrived.append(rank)

    threads = [threading.Thread(target=gather, args=(rank,), daemon=True) for rank in (0, 1)]
    threads[0].start()
    for said in (b"", b"GET / HTTP/1.1", (2).to_bytes(4)):  # a probe, a stranger, and a worker that does not stay
        while True:
            try:
                call = socket.create_connection(("127.0.0.1", int(workers[0].rpartition(":")[2])))
                break
            except ConnectionRefusedError:  # not there yet
                continue
        with call:
            call.sendall(said)
    threads[1].start()
    threads[0].join(0.5)
    assert arrived == []
    gather(2)
    for thread in threads:
        thread.join(10)
    assert sorted(arrived) == [0, 1, 2]


@pytest.mark.parametrize(("rank", "missing"), [(0, "worker 1, 2"), (1, "worker 0")])
def test_a_worker_that_never_comes_is_one_line(rank: int, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "WAIT_SECONDS", 0.3)
    workers = addresses(3)
    with pytest.raises(errors.UserError, match=rf"{missing} of {', '.join(workers)} did not start within") as error:
        rendezvous.gather(strategy.Cluster(workers, rank))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_worker_that_waits_can_be_ended(rank: int, sent: signal.Signals, status: int) -> None:
    waits = f"""
from {PACKAGE}.harness.core import stages
from {PACKAGE}.harness.training import rendezvous, strategy
def main():
    import encodings.idna  # as sockets do, once: Python would lose a Ctrl-C that comes just then
    print("waits", flush=True)
    rendezvous.gather(strategy.Cluster({addresses(2)}, {rank}))
stages.run(main)
"""
    environment, pipe = {**os.environ, "PYTHONPATH": str(ROOT / "src")}, subprocess.PIPE
    with running(sys.executable, "-c", waits, env=environment, stdout=pipe, stderr=pipe) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"waits\n"
        worker.send_signal(sent)
        _, said = worker.communicate(timeout=10)
    assert worker.returncode == status
    assert len(said.splitlines()) == (1 if sent == signal.SIGINT else 0)
