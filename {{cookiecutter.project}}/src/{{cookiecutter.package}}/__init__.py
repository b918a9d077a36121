"""One machine-learning experiment: stages, models and the service that ships them."""

import os

# ONNX Runtime tells its maker about its use unless it is told not to (its Privacy.md); set 0 to allow it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
