"""Writes kubeconfig files."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from drse_local.pki import KeyPair


@dataclass(frozen=True, slots=True)
class TokenCredential:
    """A bearer token."""

    token: str


def write_kubeconfig(
    path: Path,
    server: str,
    ca_cert: Path,
    user: str,
    credential: KeyPair | TokenCredential,
    namespace: str = "default",
) -> Path:
    """Write a self-contained kubeconfig (certificates embedded, mode 0600) and return its path."""
    match credential:
        case KeyPair(cert, key):
            auth = {"client-certificate-data": _embed(cert), "client-key-data": _embed(key)}
        case TokenCredential(token):
            auth = {"token": token}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "drse-local",
                "cluster": {"server": server, "certificate-authority-data": _embed(ca_cert)},
            }
        ],
        "users": [{"name": user, "user": auth}],
        "contexts": [
            {"name": "drse-local", "context": {"cluster": "drse-local", "user": user, "namespace": namespace}}
        ],
        "current-context": "drse-local",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(".partial")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        yaml.safe_dump(document, stream)
    staged.replace(path)
    return path


def _embed(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")
