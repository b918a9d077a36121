"""The HTTP service: its limits, and endpoints of your own.

make serve                        a supervisor and its workers
python -m <package> serve         a single process, with a third less memory and a faster start
"""

import bentoml

from .harness.serving import page
from .harness.serving.http import OPTIONS, ModelService
from .harness.serving.limits import Limits


@bentoml.service(**OPTIONS)
class Service(ModelService):
    """Prediction service: instances at /predict, a file at /predict_file."""

    # Limits(instances=1024) accepts larger requests; harness/serving/limits.py explains each limit.
    limits = Limits()

    # To add an endpoint, add a method; its name is the path. `self.info` describes the model:
    #
    # @bentoml.api
    # def classes(self) -> list[str]:
    #     """The class names."""
    #     return list(self.info.model_dump()["classes"])


page.mount(Service)
