"""The exported ONNX model."""

NOT_FINITE = "the model's answer is not a finite number: a value of the input is too extreme"
