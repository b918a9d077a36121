"""One machine-learning experiment: its stages, data, models and service.

Yours to edit:
    stages/       the pipeline: each module reads like the story of its stage in dvc.yaml
    data/         sources: where examples come from
    models/       one function a model
    features.py or augmentation.py, whichever there is
    service.py    the HTTP service, and endpoints of your own
    tests/        tests of all of this
    __main__.py   the table of commands
The template's: harness/, which `cruft update` renews.
"""

import os

# ONNX Runtime reports its use to its maker unless this is set (its Privacy.md); 0 allows it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
