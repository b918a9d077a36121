"""Nothing that is read from a file can run code: no pickles, no unsafe YAML, no evaluated text."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

# What runs code of the file that it reads, or of a text.
LOADERS = set(
    """
    cloudpickle.load cloudpickle.loads dill.load dill.loads eval exec joblib.load
    keras.config.enable_unsafe_deserialization marshal.load marshal.loads pandas.read_pickle pd.read_pickle
    pickle.Unpickler pickle.load pickle.loads shelve.open torch.load yaml.full_load yaml.load yaml.unsafe_load
    """.split()
)
ALLOWED = {
    # A subclass of SafeLoader, which takes fewer types than that.
    "harness/delivery/written.py": {"yaml.load"},
    # Work and results between processes of one cluster, which run each other's code anyway; never a file.
    "harness/executors/ray.py": {"pickle.loads"},
}


def calls(file: Path) -> Iterator[tuple[str, bool]]:
    """Yields the functions that a file calls, and whether the call allows pickles."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            allows = any(
                word.arg in ("allow_pickle", "safe_mode")
                and not (isinstance(word.value, ast.Constant) and word.value.value is (word.arg == "safe_mode"))
                for word in node.keywords
            )
            yield ast.unparse(node.func), allows


@pytest.mark.parametrize("package", sorted({path.parent for path in (ROOT / "src").glob("*/__main__.py")}), ids=str)
def test_no_file_is_read_that_could_run_code(package: Path) -> None:
    found = {}
    for file in package.rglob("*.py"):
        name = file.relative_to(package).as_posix()
        bad = {call for call, allows in calls(file) if allows or call in LOADERS} - ALLOWED.get(name, set())
        if bad:
            found[name] = bad
    assert not found


def test_the_search_finds_what_it_is_for(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text(
        "import numpy as np, pickle\nnp.load(f, allow_pickle=True)\nnp.load(f, allow_pickle=False)\npickle.load(f)"
    )
    assert [(call, allows) for call, allows in calls(bad) if allows or call in LOADERS] == [
        ("np.load", True),
        ("pickle.load", False),
    ]
