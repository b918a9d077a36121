"""Certificates for tests, made anew."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = datetime.timedelta(days=1)
# Of an authority: signs certificates, nothing else.
USAGE = x509.KeyUsage(False, False, False, False, False, True, False, False, False)


@dataclass(frozen=True)
class Authority:
    """An authority that issues certificates, with its own certificate in a file."""

    folder: Path
    name: x509.Name
    key: ec.EllipticCurvePrivateKey
    file: Path

    def issue(self, name: str, days: int = 1, organization: str = "", file: str = "") -> tuple[Path, Path]:
        """Files of a certificate for this machine, and of its key. Negative days: it has expired.

        Args:
            name: The common name.
            days: Until it expires.
            organization: The organization; none if it is empty.
            file: Name of the files; the common name if it is empty.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        within = [x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, organization)] if organization else []
        subject = x509.Name([*within, x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        addresses = [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
        certificate = (
            _builder(subject, self.name, key, self.key, days)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), *addresses]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        path = self.folder / (file or name)
        return _write(Path(f"{path}.pem"), certificate), write_key(Path(f"{path}.key"), key)


def authority(folder: Path, name: str) -> Authority:
    """A new authority that keeps its files in a folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(subject, subject, key, key, 1)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(USAGE, critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(folder, subject, key, _write(folder / f"{name}.pem", certificate))


def write_key(file: Path, key: ec.EllipticCurvePrivateKey, password: bytes = b"") -> Path:
    """Writes a key, encrypted if there is a password."""
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    return file


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    days: int,
) -> x509.CertificateBuilder:
    """What all certificates have; without the identifiers of both keys, Python 3.13 refuses them."""
    end = datetime.datetime.now(datetime.UTC) + days * DAY
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - 2 * DAY)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )


def _write(file: Path, certificate: x509.Certificate) -> Path:
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return file
