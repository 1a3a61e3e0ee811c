"""Ties a process to its parent, then becomes the program that was asked for.

Run as `python -I -S _exec_shim.py PARENT_PID PROGRAM [ARG...]`.

The kernel is asked to send SIGKILL when the parent goes (prctl(2), PR_SET_PDEATHSIG; the setting survives
execve). If the parent went before the request was in place, the kernel has nothing left to report, so the
parent's id is compared afterwards. This happens in a program of its own, not in a `preexec_fn`, because code
between fork and exec is unsafe in a process that has threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask for the death signal, check that the parent is still there, exec."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    try:
        os.execv(program[0], program)
    except OSError as error:
        print(f"cannot run {program[0]}: {error.strerror}", file=sys.stderr)
        os._exit(127)


if __name__ == "__main__":
    main()
