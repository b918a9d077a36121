"""Where the service listens, and with which certificates."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import UserError

BACKLOG = 2048  # connections that wait in the kernel


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address.

    Args:
        host: Name or address; `::` is IPv4 and IPv6, or IPv4 alone if the machine has no IPv6.
        port: The port; 0 for a free one.

    Raises:
        UserError: If the address is not one of this machine, or the port is in use.
    """
    try:
        if host == "::":
            both = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if both else socket.AF_INET
            return socket.create_server(("", port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: {error.strerror or error}") from None


@contextlib.contextmanager
def listen_locally(path: Path) -> Iterator[socket.socket]:
    """A Unix socket that listens; its file is removed at the end.

    Args:
        path: Path of its file; at most 107 bytes.

    Raises:
        UserError: If the path cannot be used.
    """
    if path.is_socket():
        path.unlink()  # of a service that was killed
    with socket.socket(socket.AF_UNIX) as listening:
        try:
            listening.bind(str(path))
        except OSError as error:
            raise UserError(f"--health {path}: {error.strerror or error}") from None
        listening.listen()
        try:
            yield listening
        finally:
            path.unlink(missing_ok=True)


def tls_options(ssl_certfile: Path | None, ssl_keyfile: Path | None, ssl_ca_certs: Path | None) -> list[str]:
    """BentoML's options for HTTPS; none for HTTP.

    Args:
        ssl_certfile: The certificate of the service, followed by those of its issuers, in PEM.
        ssl_keyfile: Its key; None if it is in the same file.
        ssl_ca_certs: Certificates whose owners issue those of clients; None if clients need none.

    Raises:
        UserError: If the certificate is missing, or a file cannot be used.
    """
    named = {"--ssl-certfile": ssl_certfile, "--ssl-keyfile": ssl_keyfile, "--ssl-ca-certs": ssl_ca_certs}
    files = {option: str(file) for option, file in named.items() if file}
    if missing := [f"{option} {file}" for option, file in files.items() if not Path(file).is_file()]:
        raise UserError(f"{missing[0]}: there is no such file")
    if files and not ssl_certfile:
        raise UserError(f"{' and '.join(files)} without --ssl-certfile: the service would not use TLS")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    option = "--ssl-certfile"
    try:
        if ssl_certfile:  # OpenSSL refuses an encrypted key, because it need not ask for the password
            context.load_cert_chain(ssl_certfile, ssl_keyfile, password="")
        option = "--ssl-ca-certs"
        if ssl_ca_certs:
            context.load_verify_locations(ssl_ca_certs)
    except OSError as error:
        expected = "certificates" if option == "--ssl-ca-certs" else "a certificate and its key, not encrypted,"
        raise UserError(f"{option} {files[option]}: OpenSSL cannot read {expected} in PEM: {error}") from None
    required = ["--ssl-cert-reqs", str(int(ssl.CERT_REQUIRED))] if ssl_ca_certs else []
    return [word for option_and_file in files.items() for word in option_and_file] + required
