"""The exported ONNX model."""
