"""Stages of a generated project, run for several models in one process, on any processor that can run Python.

    python tests/portable.py PACKAGE "OVERRIDE ..." ...

Runs in a project: `prepare` once, then the stages after it for each argument, overrides of its configuration. The
last line on stdout is JSON: for each argument, path -> MD5 of every file that the stages have written. In an emulator,
one process for all models matters: importing TensorFlow takes minutes.
"""

import hashlib
import importlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

OUTPUTS = ("data/prepared", "models", "reports")
FOLDERS = ("models", "reports/explanations", "reports/plots", "reports/robustness")  # of each model
STAGES = ("prepare", "train", "explain", "robustness", "evaluate")


def module(name: str) -> Any:
    """A module of the project, which has no types here."""
    return importlib.import_module(f"{sys.argv[1]}.{name}")


def main() -> None:
    """Runs the stages and prints the digests."""
    sys.path.insert(0, "src")
    config, log = module("harness.core.config"), module("harness.tracking.log")
    log.log_or_warn = lambda: None  # a mock: MLflow computes nothing, and in an emulator takes minutes to import
    digests: dict[str, dict[str, str]] = {}
    for overrides in sys.argv[2:]:
        for folder in FOLDERS if digests else OUTPUTS:  # reports/data.json is of `prepare`
            shutil.rmtree(folder, ignore_errors=True)
        config.PARAMS.write_text(config.compose(overrides=overrides.split()), encoding="utf-8")
        for stage in STAGES[1:] if digests else STAGES:
            module(f"stages.{stage}").main()
        files = sorted(path for folder in OUTPUTS for path in Path(folder).rglob("*") if path.is_file())
        digests[overrides] = {str(path): hashlib.md5(path.read_bytes()).hexdigest() for path in files}
        print(overrides, file=sys.stderr, flush=True)
    print(json.dumps(digests))


if __name__ == "__main__":
    main()
