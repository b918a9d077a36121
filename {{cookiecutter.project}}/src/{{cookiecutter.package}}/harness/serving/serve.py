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
from functools import partial
from pathlib import Path

import click
from bentoml.exceptions import BentoMLException

from ..core.commands import FILE
from ..core.errors import UserError
from . import page
from .checks import check_model
from .model import ROOTS
from .sockets import listen, listen_locally, tls_options


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; `::` is all, of IPv4 too.")
@click.option("--port", type=click.IntRange(0, 65535), default=3000, show_default=True, help="Port to listen on.")
@click.option("--ssl-certfile", type=FILE, help="Serve HTTPS with this certificate, followed by its issuers' (PEM).")
@click.option("--ssl-keyfile", type=FILE, help="Key of the certificate, if it is in another file (PEM).")
@click.option("--ssl-ca-certs", type=FILE, help="Answer only clients whose certificate one of these has issued (PEM).")
@click.option("--health", type=FILE, help="Answer on this Unix socket, too, without TLS: for health checks.")
def command(host: str, port: int, health: Path | None, **certificates: Path | None) -> None:
    """Serve the model in one process.

    It takes a third less memory than `make serve` and starts faster.
    """
    import uvicorn
    from _bentoml_impl.worker.service import main as work  # type: ignore[import-untyped]

    from .server import Server

    try:
        check_model()
    except BentoMLException as error:
        raise UserError(str(error)) from None
    tls = tls_options(**certificates)
    listening = listen(host, port)
    with contextlib.ExitStack() as stack:
        more = [stack.enter_context(listen_locally(health))] if health else []
        print(f"Serving on {_address(listening, bool(tls))} (Ctrl-C stops)", flush=True)
        uvicorn.Server = partial(Server, more=more)  # type: ignore[assignment,misc] # the class that `work` runs
        # SIGTERM raises an exception, so that the files of this block are removed.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = stack.enter_context(tempfile.TemporaryDirectory(prefix="metrics-"))
        # The first argument is the folder of bentofile.yaml (project) or bento.yaml (Bento).
        options = ["--fd", str(listening.detach()), "--worker-id", "1", "--timeout-graceful-shutdown", "10"]
        with contextlib.suppress(click.exceptions.Abort):  # after Ctrl-C and the answers to pending requests
            work.main([str(ROOTS[0]), *options, *tls], standalone_mode=False)


def _address(listening: socket.socket, tls: bool) -> str:
    """The address to open in a browser."""
    host, port = listening.getsockname()[:2]
    named = f"[{host}]" if ":" in host else host
    return f"http{'s' if tls else ''}://{named}:{port}{'/ui' if page.enabled() else ''}"
