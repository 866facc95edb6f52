"""A certificate of 127.0.0.1, and who signed it: for servers of the tests that speak TLS."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


class Certificate(NamedTuple):
    """PEM files: ``server`` has its key (PKCS #8) and certificate, ``authority`` what clients
    trust.
    """

    server: Path
    authority: Path


def make_certificate(folder: Path) -> Certificate:
    """Make an authority, and a certificate that it signed, valid for a day from now."""
    signing, serving = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    issuer = _named("authority of the tests")
    authority = _unsigned(issuer, issuer, signing.public_key()).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    server = _unsigned(issuer, _named("server of the tests"), serving.public_key()).add_extension(
        address, critical=False
    )
    made = Certificate(folder / "server.pem", folder / "authority.pem")
    folder.mkdir(parents=True, exist_ok=True)
    made.authority.write_bytes(authority.sign(signing, SHA256()).public_bytes(Encoding.PEM))
    made.server.touch(0o600)
    made.server.write_bytes(
        serving.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + server.sign(signing, SHA256()).public_bytes(Encoding.PEM)
    )
    return made


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _unsigned(issuer: x509.Name, subject: x509.Name, key) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(days=1),
        not_valid_after=now + timedelta(days=1),
    )
