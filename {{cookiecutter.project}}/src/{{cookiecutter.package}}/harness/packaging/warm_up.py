"""Warm-up requests and configuration of TensorFlow Serving."""

from pathlib import Path

import numpy as np

from .. import evaluation, prepared
from ..core.paths import NAME
from .signatures import as_examples, examples_method
from .tensorflow_model import ExportedModel

MOUNTED = "/models"  # the folder of models/serving in the server's image


def write(folder: Path, model: ExportedModel) -> None:
    """Writes a warm-up request for every signature, with a test example.

    The server runs these requests before it is ready:
    https://www.tensorflow.org/tfx/serving/saved_model_warmup

    Args:
        folder: The folder of the SavedModel.
        model: The exported model that it holds.
    """
    import tensorflow as tf
    from tensorflow_serving.apis import classification_pb2, model_pb2, predict_pb2, prediction_log_pb2, regression_pb2

    row = dict(next(iter(prepared.modality(model.description).feeds("test", 1))))
    for name in evaluation.presenter(model.description).private():
        row[name] = np.full_like(row[name], "" if row[name].dtype == object else np.nan)  # missing
    predict = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name=NAME, signature_name="serving_default"))
    for name, value in row.items():
        predict.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    method = examples_method(model)
    kinds = {"classify": classification_pb2.ClassificationRequest, "regress": regression_pb2.RegressionRequest}
    request = kinds[method](model_spec=model_pb2.ModelSpec(name=NAME, signature_name=method))
    request.input.example_list.examples.extend(as_examples(row))
    log = prediction_log_pb2.PredictionLog()
    getattr(log, f"{method}_log").request.CopyFrom(request)
    logs = [prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=predict)), log]
    file = folder / "assets.extra" / "tf_serving_warmup_requests"
    file.parent.mkdir()
    with tf.io.TFRecordWriter(str(file)) as writer:
        for entry in logs:
            writer.write(entry.SerializeToString())


def server_configuration() -> str:
    """The ModelServerConfig of models/serving, as text."""
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(name=NAME, base_path=f"{MOUNTED}/{NAME}", model_platform="tensorflow")
    return str(text_format.MessageToString(config))
