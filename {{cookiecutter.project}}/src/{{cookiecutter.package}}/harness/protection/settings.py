"""The environment variables SERVICE_KEYS, SERVICE_TRUSTED_PROXIES and SERVICE_RATE_STORAGE."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ..core.errors import UserError

KEYS = "SERVICE_KEYS"
PROXIES = "SERVICE_TRUSTED_PROXIES"
STORAGE = "SERVICE_RATE_STORAGE"
# Without the value, which may have a password.
EXPECTED = f"{STORAGE}: redis://HOST:PORT is expected, rediss:// for TLS, or redis+unix:///SOCKET"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Settings(NamedTuple):
    """Who says who asks.

    Attributes:
        file: File of the clients.
        proxies: Addresses of the proxies that may name a client.
        storage: Address of the Redis that counts requests; None to count them in each process.
    """

    file: Path
    proxies: tuple[Network, ...] = ()
    storage: str | None = None


def read(environment: Mapping[str, str] = os.environ) -> Settings | None:
    """The settings in the environment; None if anybody may ask.

    Args:
        environment: The environment variables.

    Raises:
        UserError: If a variable has a wrong value, or one needs another.
    """
    file = environment.get(KEYS)
    if not file:
        if alone := [name for name in (PROXIES, STORAGE) if environment.get(name)]:
            raise UserError(f"{alone[0]} without {KEYS}: that file says who may ask, for what, and how often")
        return None
    storage = environment.get(STORAGE) or None
    if storage and not storage.startswith(("redis://", "rediss://", "redis+unix://")):
        raise UserError(EXPECTED)
    proxies = environment.get(PROXIES, "").replace(",", " ").split()
    return Settings(Path(file).absolute(), tuple(map(_network, proxies)), storage)


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise UserError(f"{PROXIES}: {error}: addresses or networks are expected, 10.1.0.0/16") from None
