"""The division of sums in TensorFlow's kernels, which follows the processor's caches.

Eigen multiplies matrices in blocks that fit into the caches. It stores a long sum after 400 products with a level-1
cache of 32 KiB (Intel until Skylake, AMD until Zen 4), after 608 with 48 KiB (Intel since Ice Lake, AMD since Zen 5),
and adds in another order at the edge of a block, whose width follows level 2. Each rounds otherwise. Eigen finds the
sizes when it multiplies for the first time, and nothing but `Eigen::setCpuCacheSizes` changes them later; TensorFlow
offers that to nobody, so the sizes are changed where Eigen keeps them.
Source: Eigen/src/Core/products/GeneralBlockPanelKernel.h.
"""

import contextlib
import ctypes
import hashlib
import os
import platform
import re
import struct
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

SIZES = (32 * 2**10, 2**20, 32 * 2**20)  # bytes of level 1, 2 and 3 for which sums are divided
DEFAULTS = (32 * 2**10, 256 * 2**10, 2 * 2**20)  # bytes that Eigen assumes of a cache that the processor hides
MAPS = Path("/proc/self/maps")
LIBRARY = "libtensorflow_framework.so.2"
QUERY = "_ZN5Eigen8internal15queryCacheSizesERiS1_S1_"  # Eigen::internal::queryCacheSizes(int&, int&, int&)
# m_cacheSizes of Eigen::internal::manage_caching_sizes(Action, long*, long*, long*)
NAME = "ZN5Eigen8internal20manage_caching_sizesENS_6ActionEPlS2_S2_E12m_cacheSizes"  # pragma: allowlist secret
VARIABLE, GUARD = f"_Z{NAME}", f"_ZGV{NAME}"  # the variable, and the byte that says that it is set
DIGEST = "8fa0e925"  # of `_product`, with sums divided for SIZES


@cache  # once in a process
def align() -> None:
    """Divides sums as for caches of `SIZES`; prints a line if that is impossible.

    Only x86-64 has equal bits in reach (docs/pipeline.md).
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return
    library = _library()
    if library and (found := sizes(library)):
        _product()  # from now on, the library of the kernels has its sizes
        for before in found:
            write(before, SIZES)
        _set(library)
    if _product() != DIGEST:
        print(
            "train: this build of TensorFlow rounds long sums as the caches of this processor have it: other machines "
            "get other last digits, see docs/pipeline.md",
            file=sys.stderr,
        )


def _library() -> ctypes.CDLL | None:
    """TensorFlow's framework; None if this system or build has another."""
    import tensorflow as tf

    try:
        return ctypes.CDLL(str(Path(tf.__file__).parent / LIBRARY))
    except OSError:
        return None


def sizes(library: ctypes.CDLL) -> set[tuple[int, ...]]:
    """The sizes of the caches that Eigen finds: levels 1, 2 and 3, in bytes; none if it cannot be asked.

    There are several if the processor has cores of different kinds.

    Args:
        library: TensorFlow's framework.
    """
    query = getattr(library, QUERY, None)
    if query is None:
        return set()
    found, cores = set(), os.sched_getaffinity(0)
    try:
        for core in cores:
            os.sched_setaffinity(0, {core})
            levels = [ctypes.c_int() for _ in DEFAULTS]
            query(*map(ctypes.byref, levels))
            pairs = zip((level.value for level in levels), DEFAULTS, strict=True)
            found.add(tuple(size if size > 0 else default for size, default in pairs))
    finally:
        os.sched_setaffinity(0, cores)
    return found


def _set(library: ctypes.CDLL) -> None:
    """Sets the sizes of the framework, whose kernels have not multiplied yet."""
    with contextlib.suppress(ValueError):  # no such variable
        (ctypes.c_int64 * 3).in_dll(library, VARIABLE)[:] = list(SIZES)
        ctypes.c_uint8.in_dll(library, GUARD).value = 1


def write(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    """Changes the sizes of the caches wherever Eigen keeps them.

    Args:
        before: The sizes that it has found.
        after: The sizes that it gets.
    """
    content = struct.pack("3q", *after)
    for address in places(before):
        ctypes.memmove(address, content, len(content))


def places(kept: tuple[int, ...]) -> list[int]:
    """Addresses of variables with the sizes of the caches: three integers of 8 bytes, one after the other.

    Args:
        kept: The sizes.
    """
    pattern = re.compile(re.escape(struct.pack("3q", *kept)))
    return [
        start + match.start()
        for start, end in _variables()
        for match in pattern.finditer(ctypes.string_at(start, end - start))
        if match.start() % 8 == 0
    ]


def _variables() -> Iterator[tuple[int, int]]:
    """Where TensorFlow's libraries keep their variables: first and last address."""
    try:
        lines = MAPS.read_text().splitlines()
    except OSError:  # not Linux
        return
    end_before = 0
    for line in lines:
        addresses, access, *_, name = (*line.split(maxsplit=5), "")[:6]
        start, end = (int(address, 16) for address in addresses.split("-"))
        library = Path(name).name.startswith("libtensorflow")
        # Variables that are 0 at the start have no file: they follow those that have one.
        if access.startswith("rw") and (library or (not name and start == end_before)):
            yield start, end
        end_before = end if library else 0


def _product() -> str:
    """The digest of a product with sums of 1,000 terms, on one thread because it is small."""
    import tensorflow as tf

    numbers = (np.arange(14 * 1000, dtype=np.int64) * 2654435761 % 2**16 / 2**16 - 0.5).astype(np.float32)
    with tf.device("CPU:0"):
        product = tf.matmul(numbers[:4000].reshape(4, 1000), numbers[4000:].reshape(1000, 10))
    return hashlib.md5(np.asarray(product).tobytes(), usedforsecurity=False).hexdigest()[:8]
