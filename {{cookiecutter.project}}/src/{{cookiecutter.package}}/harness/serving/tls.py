"""The certificate of a running service: TLS 1.2 or later, read again when its files change, days to its expiry."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path
from typing import Any

import uvicorn.config

from ..core.errors import UserError, one_line
from .metrics import CERTIFICATE_DAYS, family
from .watch import watch

_MAKE = uvicorn.config.create_ssl_context
_served: list[Certificate] = []  # that of this process, if it has one


class Certificate:
    """A certificate in files, and the context that shows it to clients."""

    def __init__(self, context: ssl.SSLContext, certificate: Path, key: Path | None, issuers: Path | None) -> None:
        """Begins to watch the files, in the event loop that runs.

        Args:
            context: The context, with the certificate.
            certificate: The certificate, followed by those of its issuers.
            key: Its key; None if it is in the same file.
            issuers: Certificates that may issue those of clients; None if clients need none.
        """
        self._context, self._certificate, self._key, self._issuers = context, certificate, key, issuers
        self._loop = asyncio.get_running_loop()
        self.expires = 0.0  # in seconds since 1970-01-01 UTC
        watch([file for file in (certificate, key, issuers) if file], self._read)

    def _read(self) -> None:
        try:
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # certificate and key may have been written one by one
            # The only function of Python that reads a certificate; it is not documented, and as old as `ssl`.
            facts = ssl._ssl._test_decode_cert(str(self._certificate))  # type: ignore[attr-defined]
        except OSError as error:
            raise UserError(f"{self._certificate}: OpenSSL cannot read it: {one_line(error)}") from None
        self.expires = ssl.cert_time_to_seconds(facts["notAfter"])
        # In the loop, because a handshake in another thread could meet the new certificate with the old key.
        self._loop.call_soon_threadsafe(self._load, self._context)

    def _load(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(self._certificate, self._key, password="")
        if self._issuers:  # adds: a service that is to forget one starts again
            context.load_verify_locations(self._issuers)


def context(**options: Any) -> ssl.SSLContext:
    """A context as uvicorn makes it, that follows its files.

    Args:
        **options: Arguments of uvicorn's function.
    """
    made = _MAKE(**options)
    if made.minimum_version < ssl.TLSVersion.TLSv1_2:  # the system's configuration, or --ssl-version
        made.minimum_version = ssl.TLSVersion.TLSv1_2
    if options["password"] is None:  # of an encrypted key, which `bentoml serve` alone takes
        files = (options[name] and Path(options[name]).absolute() for name in ("certfile", "keyfile", "ca_certs"))
        _served[:] = [Certificate(made, *files)]
    return made


def install() -> None:
    """Makes uvicorn use such contexts, in this process; `bentoml serve` has no option for it."""
    uvicorn.config.create_ssl_context = context  # type: ignore[assignment]  # uvicorn names all arguments


def facts(version: str) -> str:
    """Lines of /metrics: the days to the expiry of the certificate, if there is one.

    Args:
        version: The model's version.
    """
    days = [(served.expires - time.time()) / 86400 for served in _served]
    return family(CERTIFICATE_DAYS, version, [((), days[0])]) if days else ""
