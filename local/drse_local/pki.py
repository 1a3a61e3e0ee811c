"""Certificates and keys of one embedded cluster: a CA, a serving certificate, clients, the service-account
key.

Keys are ECDSA P-256 (created in microseconds, accepted by every component and for ES256 service-account
tokens). Existing files are kept, so that the tokens and kubeconfigs of a named instance outlive a restart.
The CA is valid for ten years and everything it signs for one; leaf certificates are renewed at every start.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CA_LIFETIME = timedelta(days=3650)
_LEAF_LIFETIME = timedelta(days=365)
_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Paths of a PEM certificate and its PEM private key."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class ClusterPki:
    """Everything the components are given, on disk."""

    ca_cert: Path
    server: KeyPair
    admin: KeyPair
    controller_manager: KeyPair
    scheduler: KeyPair
    kwok: KeyPair
    etcd_client: KeyPair
    service_account_key: Path
    service_account_public: Path


class _Authority:
    """The CA: signs leaf certificates into its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.pair = KeyPair(folder / "ca.crt", folder / "ca.key")
        if self.pair.cert.exists() and self.pair.key.exists():
            self._key = _load_key(self.pair.key)
            self._cert = x509.load_pem_x509_certificate(self.pair.cert.read_bytes())
        else:
            self._key = ec.generate_private_key(ec.SECP256R1())
            self._cert = self._self_sign()
            _write_private(self.pair.key, _pem(self._key))
            self.pair.cert.write_bytes(self._cert.public_bytes(serialization.Encoding.PEM))

    def _self_sign(self) -> x509.Certificate:
        name = _name("drse-local-ca", ())
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        return (
            _builder(name, name, self._key.public_key(), _CA_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def issue(
        self, file: str, common_name: str, organizations: Sequence[str] = (), server: bool = False
    ) -> KeyPair:
        """Sign a certificate for a client, or for a server on loopback (which may also act as a client)."""
        key = ec.generate_private_key(ec.SECP256R1())
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if server else [])
        builder = (
            _builder(_name(common_name, organizations), self._cert.subject, key.public_key(), _LEAF_LIFETIME)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if server:
            builder = builder.add_extension(_loopback_names(), critical=False)
        pair = KeyPair(self._folder / f"{file}.crt", self._folder / f"{file}.key")
        _write_private(pair.key, _pem(key))
        pair.cert.write_bytes(
            builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        return pair


def create_pki(folder: Path) -> ClusterPki:
    """Create (or complete) the PKI of a cluster in `folder`."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = _Authority(folder)
    private, public = folder / "service-account.key", folder / "service-account.pub"
    if not (private.exists() and public.exists()):
        key = ec.generate_private_key(ec.SECP256R1())
        _write_private(private, _pem(key))
        public.write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
    return ClusterPki(
        ca_cert=authority.pair.cert,
        server=authority.issue("server", "drse-local", server=True),
        admin=authority.issue("admin", "drse-local-admin", ["system:masters"]),
        controller_manager=authority.issue("controller-manager", "system:kube-controller-manager"),
        scheduler=authority.issue("scheduler", "system:kube-scheduler"),
        kwok=authority.issue("kwok", "drse-local-kwok", ["system:masters"]),
        etcd_client=authority.issue("etcd-client", "kube-apiserver"),
        service_account_key=private,
        service_account_public=public,
    )


def _loopback_names() -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(
        [
            x509.DNSName("localhost"),
            x509.DNSName("kubernetes.default.svc"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
    )


def _name(common_name: str, organizations: Sequence[str]) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{path} is not an elliptic-curve key")
    return key


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
