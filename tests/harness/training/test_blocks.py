"""Tests of the division of sums in TensorFlow's kernels."""

import json
import subprocess
import sys

import pytest
from my_experiment.harness.training import blocks

# Products whose sums Eigen divides by each of the caches, backwards and forwards, with the threads of conf/train.
DIGESTS = """
import hashlib, json
import numpy as np
from my_experiment.harness.training import blocks, kernels
kernels.choose(portable=True)
from my_experiment.harness.training import devices
from my_experiment.harness.training.quiet import tf

devices.limit_threads(4)

def numbers(seed, *shape):
    return ((np.arange(np.prod(shape)) + seed) * 2654435761 % 2**16 / 2**16 - 0.5).astype("float32").reshape(shape)

def digests():
    pictures, filters = numbers(1, 2, 28, 28, 8), numbers(2, 3, 3, 8, 16)
    changes = numbers(3, 2, 28, 28, 16)
    found = {
        "long": tf.matmul(numbers(4, 4, 1000), numbers(5, 1000, 10)),
        "transposed": tf.matmul(numbers(6, 4, 1000), numbers(7, 64, 1000), transpose_b=True),
        "batch": tf.matmul(numbers(8, 1000, 4), numbers(9, 1000, 64), transpose_a=True),
        "wide": tf.matmul(numbers(10, 16, 256), numbers(11, 256, 1024)),
        "several": tf.matmul(numbers(12, 3, 8, 700), numbers(13, 3, 700, 8)),
        "filters": tf.raw_ops.Conv2DBackpropFilter(
            input=pictures, filter_sizes=filters.shape, out_backprop=changes, strides=[1, 1, 1, 1], padding="SAME"
        ),
    }
    return {name: hashlib.md5(np.asarray(value).tobytes()).hexdigest()[:8] for name, value in found.items()}

blocks.align()
aligned = digests()
other = (16 * 2**10, 2**17, 2**21)
blocks.write(blocks.SIZES, other)
small = digests()
blocks.write(other, blocks.SIZES)
assert digests() == aligned
own = blocks.sizes(blocks._library()) - {blocks.SIZES}
print(json.dumps([aligned, small, [place for each in own for place in blocks.places(each)]]))
"""


# Seen with 48 KiB of level-1 cache (AMD, Zen 5), and on QEMU's Haswell and EPYC-Rome.
EXPECTED = {
    "long": "5747b96a",
    "transposed": "463d0a7a",
    "batch": "d47383c7",
    "wide": "6ff34cb5",
    "several": "d461c45d",
    "filters": "40f0f62c",
}


@pytest.mark.keras
def test_sums_are_those_of_every_processor() -> None:
    done = subprocess.run([sys.executable, "-c", DIGESTS], capture_output=True, text=True, check=True)
    assert "rounds long sums" not in done.stderr
    aligned, small, left = json.loads(done.stdout)
    assert aligned == EXPECTED
    assert all(small[name] != aligned[name] for name in aligned)  # it is the sizes of the caches that decide
    assert left == []  # no library of TensorFlow goes on with what it has found


@pytest.mark.keras
def test_another_build_is_told(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    for library in ("libother.so", blocks.LIBRARY):
        monkeypatch.setattr(blocks, "LIBRARY", library)
        monkeypatch.setattr(blocks, "QUERY", "other")
        monkeypatch.setattr(blocks, "DIGEST", "other")
        blocks.align.__wrapped__()
        assert capfd.readouterr().err.splitlines()[-1].startswith("train: this build of TensorFlow rounds long sums")
