"""Builds the cluster's programs with Go, showing how far it is.

The build cache belongs to the build: unless GOCACHE is set, it is a folder of ours that is dropped once
everything asked for has been built (it grows to several GB), and kept after a failure so that the next try
continues there.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from drse_local.errors import LocalClusterError
from drse_local.processes import tail
from drse_local.tools import MINIMUM_GO, GoModule, Tool, cache_root, estimate_minutes
from drse_local.wheels import fetch_go

_TICK_SECONDS = 1.0
_LINE_EVERY_SECONDS = 30.0


class GoBuilder:
    """Builds tools one after the other, with one toolchain and one cache."""

    def __init__(self) -> None:
        root = cache_root()
        self._logs = root / "logs"
        self._own_cache = None if os.environ.get("GOCACHE") else root / "go-build"
        go = _go_on_path()
        keep_modules = go is not None or os.environ.get("GOMODCACHE")
        self._own_modules = None if keep_modules else root / "go-mod"
        self._go = go or fetch_go(root / "toolchain")
        self._env = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off"}
        if self._own_cache is not None:
            self._env["GOCACHE"] = str(self._own_cache)
        if self._own_modules is not None:
            self._env["GOMODCACHE"] = str(self._own_modules)

    def build(self, wanted: Sequence[tuple[GoModule, Tool]], folder_of: dict[str, Path]) -> None:
        """Build each tool into its module's folder. Raises LocalClusterError with the end of the output."""
        minutes = estimate_minutes(tool for _, tool in wanted)
        names = ", ".join(tool.name for _, tool in wanted)
        _say(f"Building {names} with Go, once: about {minutes:.0f} min on an idle machine of this size.")
        for index, (module, tool) in enumerate(wanted, start=1):
            self._build_one(module, tool, folder_of[module.name], f"[{index}/{len(wanted)}]")
        self._drop_caches()

    def _build_one(self, module: GoModule, tool: Tool, folder: Path, label: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        staged = folder / f".{tool.name}.partial"
        log_path = self._logs / f"build-{tool.name}.log"
        command = [str(self._go), "build", *module.build_flags(), "-o", str(staged), tool.package]
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=module.folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                _show_progress(process, f"{label} {tool.name}", estimate_minutes([tool]))
            except BaseException:
                process.kill()
                process.wait()
                raise
        if process.returncode != 0:
            raise LocalClusterError(
                f"Building {tool.name} failed; the end of {log_path}:\n{tail(log_path, 20)}\n"
                "If modules cannot be downloaded, set GOPROXY, or put the programs into a folder and name it "
                "in DRSE_LOCAL_BIN."
            )
        staged.replace(folder / tool.name)

    def _drop_caches(self) -> None:
        if self._own_cache is not None:
            shutil.rmtree(self._own_cache, ignore_errors=True)
        if self._own_modules is not None:
            # Module folders are read-only; only Go itself removes them cleanly.
            with contextlib.suppress(OSError):
                subprocess.run([str(self._go), "clean", "-modcache"], env=self._env, check=False)


def _go_on_path() -> Path | None:
    found = shutil.which("go")
    if found is None:
        return None
    answer = subprocess.run(
        [found, "env", "GOVERSION"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"GOTOOLCHAIN": "local"},
    )
    version = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", answer.stdout)
    if version is None or tuple(int(part or 0) for part in version.groups()) < MINIMUM_GO:
        return None
    return Path(found)


def _show_progress(process: subprocess.Popen[bytes], label: str, minutes: float) -> None:
    started = last_line = time.monotonic()
    live = sys.stderr.isatty()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_TICK_SECONDS)
        elapsed = time.monotonic() - started
        text = f"{label}: {int(elapsed // 60)}:{int(elapsed % 60):02d} of about {minutes:.1f} min"
        if process.returncode is not None:
            _say(f"{label}: {'done' if process.returncode == 0 else 'failed'} after {elapsed:.0f} s", live)
            return
        if live:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - last_line >= _LINE_EVERY_SECONDS:
            last_line = time.monotonic()
            _say(text)


def _say(text: str, over: bool = False) -> None:
    print(f"\r\033[K{text}" if over else text, file=sys.stderr, flush=True)
