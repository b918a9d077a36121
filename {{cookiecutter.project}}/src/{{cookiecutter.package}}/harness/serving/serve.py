"""The command `serve`: the service in one process.

The process runs a worker of `bentoml serve` without its supervisor: for platforms that restart containers, and for a
quick look.
"""

import contextlib
import os
import signal
import socket
import sys
import tempfile

import click
from bentoml.exceptions import BentoMLException

from ..core.errors import UserError
from . import page
from .model import ROOTS, read_model_info


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=3000, show_default=True, help="Port to listen on.")
def command(host: str, port: int) -> None:
    """Serve the model in one process.

    It takes a third less memory than `make serve` and starts faster.
    """
    import uvicorn
    from _bentoml_impl.worker.service import main as work  # type: ignore[import-untyped]

    from .server import Server

    try:
        read_model_info()
        listening = socket.create_server((host, port), backlog=2048)
    except (BentoMLException, OSError) as error:
        raise UserError(str(error)) from None
    path = "/ui" if page.enabled() else ""
    print(f"Serving on http://{host}:{port}{path} (Ctrl-C stops)", flush=True)
    uvicorn.Server = Server  # type: ignore[misc] # the class that `work` runs
    # SIGTERM raises an exception, so that the temporary folder is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="metrics-") as metrics:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics
        # The first argument is the folder of bentofile.yaml (project) or bento.yaml (Bento).
        options = ["--fd", str(listening.detach()), "--worker-id", "1", "--timeout-graceful-shutdown", "10"]
        with contextlib.suppress(click.exceptions.Abort):  # after Ctrl-C and the answers to pending requests
            work.main([str(ROOTS[0]), *options], standalone_mode=False)
