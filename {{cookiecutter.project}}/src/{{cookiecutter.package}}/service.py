"""The HTTP service: parts of the harness put together, and the place for limits and endpoints of your own.

make serve                        a supervisor and its workers
python -m <package> serve         one process: a third less memory, and a faster start
"""

import bentoml

from .harness.serving import page
from .harness.serving.http import OPTIONS, ModelService
from .harness.serving.limits import Limits


@bentoml.service(**OPTIONS)
class Service(ModelService):
    """Answers instances at /predict, and a file at /predict_file."""

    limits = Limits()  # Limits(instances=1024) takes larger requests; harness/serving/limits.py explains each

    # An endpoint of your own is a method, at the address of its name. `self.info` describes the model:
    #
    # @bentoml.api
    # def classes(self) -> list[str]:
    #     """The classes that the model knows."""
    #     return self.info.model_dump()["classes"]


page.mount(Service)
