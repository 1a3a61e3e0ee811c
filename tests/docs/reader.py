"""Somebody who reads the documentation and types what it says into one shell."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from tests.docs.pages import ROOT, Command, Shape

#: Commands that end only when they are interrupted: what they print first is what is looked at.
_ENDLESS = re.compile(r"^drse-console |port-forward|drse console|decisions .*-f\b| (?:-w|--watch)\b")
_SECONDS = 150
#: An error ends a command just after it is printed.
_MOMENT = 0.5


@dataclass(frozen=True, slots=True)
class Reader:
    """A shell in a folder like a checkout. What a command exports is there for the next one."""

    folder: Path
    environment: Mapping[str, str]

    @classmethod
    def in_checkout(cls, folder: Path) -> Reader:
        """With what a page may use of a checkout, and a place of its own for clusters."""
        for name in ("helm", "local/drse_local/scenarios", "manifests"):
            shutil.copytree(ROOT / name, folder / name)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DRSE_PRO")}
        return cls(folder, {**kept, "PATH": path, "XDG_STATE_HOME": str(folder / "state")})

    def run(self, command: Command, words: Mapping[str, str] | None = None) -> str:
        """Run it, with ``words`` for its placeholders. Fails with what it printed, or where that is not what
        the page shows."""
        text = command.text
        for placeholder, word in (words or {}).items():
            text = text.replace(placeholder, word)
        command = replace(command, text=text)
        if "drse dash" in text:
            printed = self._on_a_terminal(command)
        elif _ENDLESS.search(text):
            printed = self._until_it_prints(command)
        else:
            printed = self._to_the_end(command)
        shown = Shape.of(command.shown)
        assert shown.is_that_of(printed), (
            f"{command.page}: {text} does not print what the page shows:\n{os.linesep.join(command.shown)}\n"
            f"but\n{printed}"
        )
        return printed

    def _shell(self, text: str, **kwargs: Any) -> subprocess.Popen[str]:
        memory = self.folder / "environment"
        remembered = f"[ -f {memory} ] && . {memory}\ntrap 'export -p > {memory}' EXIT\n"
        return subprocess.Popen(
            ("bash", "-eu", "-o", "pipefail", "-c", f"{remembered}{text}"),
            cwd=self.folder,
            env=dict(self.environment),
            text=True,
            start_new_session=True,
            **{"stdin": subprocess.DEVNULL, **kwargs},
        )

    def _to_the_end(self, command: Command) -> str:
        process = self._shell(command.text, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert process.returncode == command.status, f"{command.page}: {command.text}\n{out}{err}"
        return str(out)

    def _on_a_terminal(self, command: Command) -> str:
        """Until it has drawn something; then it is asked to end as a person would."""
        ours, theirs = pty.openpty()
        process = self._shell(command.text, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        with os.fdopen(ours, "r+b", buffering=0) as terminal:
            drawn = b""
            while b"GPUs" not in drawn:
                drawn += terminal.read(65536)
            terminal.write(b"q")
            with contextlib.suppress(OSError):  # how a terminal says that nobody is there any more
                while terminal.read(65536):
                    pass
        assert process.wait(_SECONDS) == command.status, drawn.decode(errors="replace")
        return ""

    def _until_it_prints(self, command: Command) -> str:
        with tempfile.TemporaryFile("w+") as out:
            process = self._shell(f"exec {command.text}", stdout=out, stderr=subprocess.STDOUT)
            deadline = time.monotonic() + _SECONDS
            while process.poll() is None and not os.fstat(out.fileno()).st_size and not _answers(command):
                assert time.monotonic() < deadline, f"{command.page}: {command.text} prints nothing"
                time.sleep(0.1)
            time.sleep(_MOMENT)
            ended = process.poll()
            if ended is None:
                os.killpg(process.pid, signal.SIGINT)
                process.wait(_SECONDS)
            out.seek(0)
            printed = out.read()
            assert ended is None, f"{command.page}: {command.text} has ended\n{printed}"
            return printed


def _answers(command: Command) -> bool:
    """Whether a server that says nothing serves."""
    found = re.search(r"--listen (\S+)", command.text)
    if found is None:
        return False
    try:
        return httpx.get(f"http://{found[1]}/healthz", trust_env=False, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
