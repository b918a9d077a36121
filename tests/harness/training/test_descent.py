"""Training, with Keras itself: seeded, every batch once, the best epoch kept, an export that says the same."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from support import PACKAGE, ROOT
from my_experiment.harness.core import config
from my_experiment.harness.core import errors
from my_experiment.harness.exported import graphs
from my_experiment.harness.exported import inference
from my_experiment.harness import targets
from my_experiment.harness.training import export
from my_experiment.harness.training import strategy

pytestmark = pytest.mark.keras
# Each project has one of them, or both.
TARGET = "classification" if (ROOT / f"src/{PACKAGE}/targets/classification.py").exists() else "regression"
MANIFEST = {"target": TARGET, "classes": ["low", "middle", "high"]}
SETTINGS: dict[str, Any] = {
    "seed": 0,
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 0.003,
    "monitor": "val_loss",
    "patience": 6,
    "class_weights": "none",
}
Split = tuple[NDArray[np.float32], NDArray[Any]]


def split(seed: int, count: int) -> Split:
    """Rows whose sum says the answer, as a class or as a number."""
    rows = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
    total = rows.sum(1)
    answers = np.digitize(total, [-1, 1]) if TARGET == "classification" else 50 + 10 * total.astype(np.float64)
    return rows, answers



def build(precision: str = "float32", **changes: Any) -> Any:
    """The untrained mlp of conf/model/, with changes of its parameters."""
    training = module("keras_training")
    training.keras.utils.clear_session()  # layers are numbered within a process; a stage has one of its own
    training.make_deterministic(0)

    def layers() -> tuple[Any, Any]:
        entry = training.keras.Input((4,), name="encoded")
        return entry, entry

    section = yaml.safe_load((ROOT / "conf/model/mlp.yaml").read_text(encoding="utf-8"))
    head = targets.target(MANIFEST).head(MANIFEST, split(0, 240)[1])
    with training.precision(precision):
        return config.instantiate({**section, **changes}, layers, head)



def fit(model: Any, count: int = 240, **changes: Any) -> Any:
    """Trains a model; returns its history."""
    training = module("keras_training")
    train = split(0, count)
    compiled = targets.target(MANIFEST).compile_arguments(MANIFEST, train[1])
    return training.descend(model, train, split(1, 60), compiled, training.Settings(**{**SETTINGS, **changes}))



def test_the_same_training_has_the_same_weights() -> None:
    one = build()
    history = fit(one)
    two = build()
    assert fit(two).equals(history)
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)



def test_it_learns() -> None:
    history = fit(build(), epochs=10)
    assert history["val_loss"].iloc[-1] < history["val_loss"].iloc[0]
    metric = targets.target(MANIFEST).METRIC
    assert set(history.columns) == {"loss", "val_loss", metric, f"val_{metric}"}



def test_the_best_epoch_is_kept() -> None:
    model = build()
    history = fit(model, patience=1, epochs=40, learning_rate=0.05)
    assert len(history) < 40
    target = targets.target(MANIFEST)
    metric = history[f"val_{target.METRIC}"].iloc[int(history["val_loss"].argmin())]
    rows, answers = split(1, 60)
    output = np.asarray(model(rows, training=False))
    right = output.argmax(1) == answers if TARGET == "classification" else np.abs(output[:, 0] - answers)
    found = right.mean()
    assert found == pytest.approx(metric, rel=1e-4)



def test_a_loss_that_is_no_number_is_one_line() -> None:
    model = build()
    model.set_weights([np.full_like(weights, np.nan) for weights in model.get_weights()])
    with pytest.raises(errors.UserError, match=r"lower train\.learning_rate") as error:
        fit(model)
    assert "\n" not in str(error.value)



def test_an_export_that_differs_is_refused(tmp_path: Path) -> None:
    model, (rows, _) = build(), split(2, 10)
    model(rows)  # Keras exports no model that has never been called
    output = targets.target(MANIFEST).OUTPUT
    serialised = graphs.canonical(export.to_onnx(model), ["encoded"], [output]).SerializeToString()
    answers = inference.predict(serialised, [{"encoded": rows[:6]}, {"encoded": rows[6:]}])
    export.verify(np.asarray(model(rows)), answers)
    with pytest.raises(errors.UserError, match="differs from the fitted model"):
        export.verify(np.asarray(model(rows)) * 1.1, answers)



def test_batches_cover_every_example_once_in_a_seeded_order() -> None:
    training = module("keras_training")
    rows = np.arange(50, dtype=np.uint8).reshape(50, 1, 1, 1)
    data = rows, rows[:, 0, 0, 0].astype(np.int64)

    def epochs(seed: int | None) -> list[list[int]]:
        read = training.batches(data, 16, seed)
        pairs = [[(part.numpy(), targets.numpy()) for part, targets in read] for _ in range(2)]
        for part, targets in pairs[0]:
            assert (part[:, 0, 0, 0] == targets).all()
        return [np.concatenate([targets for _, targets in epoch]).tolist() for epoch in pairs]

    assert epochs(None) == [list(range(50))] * 2
    first, second = epochs(1)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert epochs(1) == [first, second] != epochs(2)



@pytest.mark.parametrize("count", [50, 49])  # the last batch has two rows, or one: fewer than there are workers
def test_workers_read_every_row_once_between_them(count: int) -> None:
    training = module("keras_training")
    rows = np.arange(count, dtype=np.int64).reshape(count, 1)

    def epochs(rank: int, size: int) -> list[list[list[int]]]:
        read = training.batches((rows, rows[:, 0]), 16, 1, share=training.Share(rank, size))
        return [[targets.numpy().tolist() for _, targets in read] for _ in range(2)]

    whole, parts = epochs(0, 1), [epochs(rank, 3) for rank in range(3)]
    for epoch in range(2):
        for batch, *shares in zip(whole[epoch], *(part[epoch] for part in parts), strict=True):
            assert batch == list(itertools.chain(*shares))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1



def test_a_worker_reads_only_its_rows_from_disk(tmp_path: Path) -> None:
    training = module("keras_training")
    np.save(tmp_path / "rows.npy", np.arange(64, dtype=np.int64).reshape(64, 1))
    seen: list[int] = []

    class Watched(np.memmap):
        def __getitem__(self, index: Any) -> Any:
            found = super().__getitem__(index)
            seen.extend(np.asarray(found).ravel().tolist())
            return found

    rows = np.load(tmp_path / "rows.npy", mmap_mode="r").view(Watched)
    own = [t.numpy().tolist() for _, t in training.batches((rows, np.arange(64)), 16, 0, share=training.Share(1, 2))]
    assert sorted(seen) == sorted(itertools.chain(*own))
    assert len(seen) == 32



def test_an_interrupted_training_goes_on_bit_for_bit(workspace: Path) -> None:
    training, distributed = module("keras_training"), module("distributed_training")
    group = distributed.Group(strategy.Cluster(("localhost:1",), 0), None, "")
    train = split(0, 240)
    compiled = targets.target(MANIFEST).compile_arguments(MANIFEST, train[1])

    def run(stop: int | None = None) -> tuple[Any, list[NDArray[Any]]]:
        def report(epoch: int, measured: Any) -> None:
            if epoch == stop:
                raise KeyboardInterrupt

        model = build()
        settings = training.Settings(**{**SETTINGS, "epochs": 5})
        history = training.descend(model, train, split(1, 60), compiled, settings, report=report, group=group)
        return history, model.get_weights()

    with pytest.raises(KeyboardInterrupt):
        run(stop=3)
    assert len(list(distributed.CHECKPOINTS.glob("*.npz"))) == 1
    continued = run()
    distributed.forget()
    whole = run()
    assert continued[0].equals(whole[0])
    for a, b in zip(continued[1], whole[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert run()[0].equals(whole[0])  # nothing is left to train: what was kept is taken



def test_a_checkpoint_of_another_training_is_not_taken(workspace: Path) -> None:
    training, distributed = module("keras_training"), module("distributed_training")
    group = distributed.Group(strategy.Cluster(("localhost:1",), 0), None, "")
    compiled = targets.target(MANIFEST).compile_arguments(MANIFEST, split(0, 240)[1])
    for rate, rows in ((0.003, 240), (0.002, 240), (0.002, 239)):
        settings = training.Settings(**{**SETTINGS, "epochs": 2, "learning_rate": rate})
        training.descend(build(), split(0, rows), split(1, 60), compiled, settings, group=group)
    assert len(list(distributed.CHECKPOINTS.glob("*.npz"))) == 3



def test_half_precision_is_for_the_training_alone(tmp_path: Path) -> None:
    training = module("keras_training")
    devices = strategy.Strategy(precision="mixed_bfloat16")
    model = build(devices.precision)
    assert "bfloat16" in {layer.compute_dtype for layer in model.layers}
    fit(model, strategy=devices)
    plain = training.plain(model, devices)
    assert {layer.compute_dtype for layer in plain.layers} == {"float32"}
    rows = split(2, 10)[0]
    plain(rows)
    output = targets.target(MANIFEST).OUTPUT
    serialised = graphs.canonical(export.to_onnx(plain), ["encoded"], [output]).SerializeToString()
    export.verify(np.asarray(plain(rows)), inference.predict(serialised, [{"encoded": rows}]))

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
    with pytest.raises(errors.UserError, match="nothing says who the workers are"):
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
        strategy.gather(strategy.Cluster(workers, rank))
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
    monkeypatch.setattr(strategy, "WAIT_SECONDS", 0.3)
    workers = addresses(3)
    with pytest.raises(errors.UserError, match=rf"{missing} of {', '.join(workers)} did not come within") as error:
        strategy.gather(strategy.Cluster(workers, rank))
    assert "\n" not in str(error.value)



@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_worker_that_waits_can_be_ended(rank: int, sent: signal.Signals, status: int) -> None:
    waits = f"""
from {PACKAGE} import cli, strategy
def main():
    print("waits", flush=True)
    strategy.gather(strategy.Cluster({addresses(2)}, {rank}))
cli.run(main)
"""
    environment, pipe = {**os.environ, "PYTHONPATH": str(ROOT / "src")}, subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", waits], env=environment, stdout=pipe, stderr=pipe) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"waits\n"
        worker.send_signal(sent)
        _, said = worker.communicate(timeout=10)
    assert worker.returncode == status
    assert len(said.splitlines()) == (1 if sent == signal.SIGINT else 0)



def test_xla_learns_the_same() -> None:
    # XLA draws other random numbers: dropout would drop other units.
    one, two = (fit(build(dropout=0.0), strategy=strategy.Strategy(xla=xla)) for xla in (False, True))
    np.testing.assert_allclose(one.filter(like="loss"), two.filter(like="loss"), rtol=1e-3)



def test_class_weights_balance() -> None:
    from my_experiment.harness.training import keras_fit
    assert keras_fit.class_weights(np.array([0, 0, 0, 1]), 2) == {0: 4 / 6, 1: 2.0}



@pytest.mark.parametrize("count", [20, 250])
def test_every_batch_is_seen_once_an_epoch(count: int) -> None:
    # Several steps run at a time; neither count fills the last execution, nor the last batch.
    model = build()
    fit(model, count)
    assert int(model.optimizer.iterations) == SETTINGS["epochs"] * -(-count // 16)



@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"monitor": "val_mae" if TARGET == "classification" else "val_accuracy"},
            r"^train\.monitor: .* choose val_loss",
        ),
        *([({"class_weights": "balanced"}, r"^train\.class_weights: ")] if TARGET == "regression" else []),
    ],
)
def test_what_the_target_does_not_have_is_refused(changes: dict[str, Any], named: str) -> None:
    from my_experiment.harness.training import fit
    with pytest.raises(errors.UserError, match=named):
        model = {"_target_": f"{PACKAGE}.models.mlp.mlp"}
        fit.gradient_descent(model, None, MANIFEST, **{**SETTINGS, **changes})



