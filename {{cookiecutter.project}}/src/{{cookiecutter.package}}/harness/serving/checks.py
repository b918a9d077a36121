"""What is verified before workers start, so that it fails once, with one line."""

from .. import audit
from ..capture import settings
from . import auditing, explain, page, protected, release, switches
from .log import log_settings
from .model import read_model_info


def check_model() -> None:
    """Verifies the model, the files that explain it and describe it to the page, and the settings of logs and guard.

    Files and settings of what is switched off are not read. It prints what is kept and recorded, and who may ask.

    Raises:
        BentoMLException: If the service could not start.
    """
    switches.check([*protected.VARIABLES, *release.VARIABLES, settings.FOLDER, audit.FOLDER])
    info = read_model_info()
    release.check(info)
    if explain.enabled():
        explain.explainer(info, None)
    if kept := log_settings(info):
        print(kept, flush=True)
    if place := auditing.folder():
        print(f"SERVICE_AUDIT: who did what is recorded in {place}", flush=True)
    protected.check()
    if page.enabled():
        page.read(page.CONTENT)
