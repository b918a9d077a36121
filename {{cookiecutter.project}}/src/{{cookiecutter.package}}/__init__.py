"""One machine-learning experiment: its stages, data, models and service.

Yours to edit:
    stages/       the pipeline: one module for each stage in dvc.yaml, its steps in order
    data/         data sources: one function for each
    models/       models: one function for each
    features.py or augmentation.py: the feature encodings of tables, or the augmentation of images
    service.py    the HTTP service: its limits, and endpoints of your own
    tests/        tests of these files
    __main__.py   the table of commands
The template's, renewed by `cruft update`: harness/.
"""

import os

# ONNX Runtime sends telemetry to Microsoft unless this is set (its Privacy.md); 0 allows it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
