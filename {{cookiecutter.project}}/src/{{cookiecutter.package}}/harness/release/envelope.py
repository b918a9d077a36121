"""DSSE envelopes of statements, signed and verified by securesystemslib: https://github.com/secure-systems-lab/dsse.

Run as a program by the Python of an environment that has the library, `signing.ENVIRONMENT`; this project's has not:

    envelope.py sign KEY        statement on standard input -> envelope on standard output
    envelope.py verify KEY      envelope -> statement, if the signature holds for the key, public or private
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

TYPE = "application/vnd.in-toto+json"


def sign(pem: bytes, statement: str) -> str:
    """The envelope of a statement.

    Args:
        pem: The private key.
        statement: The statement.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner

    envelope = Envelope(statement.encode(), TYPE, {})
    envelope.sign(CryptoSigner(_known(load_pem_private_key(pem, None))))
    return json.dumps(envelope.to_dict())


def verify(pem: bytes, text: str) -> str:
    """The statement in an envelope.

    Args:
        pem: The public key, or the private one.
        text: The envelope.

    Raises:
        ValueError: If it is no envelope of a statement, or the signature does not hold.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    public = load_pem_private_key(pem, None).public_key() if b"PRIVATE" in pem else load_pem_public_key(pem)
    try:
        envelope = Envelope.from_dict(json.loads(text))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError("it is no signed statement") from None
    try:
        envelope.verify([SSlibKey.from_crypto(_known(public))], 1)
    except VerificationError:
        raise ValueError("it has another key, or was changed") from None
    if envelope.payload_type != TYPE:
        raise ValueError(f"it holds {envelope.payload_type}, not a statement")
    return bytes(envelope.payload).decode()


def _known(key: Any) -> Any:
    """The key.

    Raises:
        ValueError: If statements cannot be signed with it.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    # Curves of ECDSA; model-signing takes no other keys.
    if not isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        raise ValueError("it is no key of an elliptic curve: openssl ecparam -name prime256v1 -genkey -noout")
    return key


if __name__ == "__main__":
    acts: "dict[str, Callable[[bytes, str], str]]" = {"sign": sign, "verify": verify}
    try:
        sys.stdout.write(acts[sys.argv[1]](Path(sys.argv[2]).read_bytes(), sys.stdin.read()))
    except (OSError, TypeError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
