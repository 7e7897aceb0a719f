"""Runs a command for so many seconds at most, and ends whatever it started: python within.py SECONDS COMMAND…

macOS has no timeout(1). The exit status is the command's own; 124 is a time-out, 128 + N a death by signal N.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys


def main() -> int:
    seconds, command = float(sys.argv[1]), sys.argv[2:]
    process = subprocess.Popen(command, start_new_session=True)

    def end(number: int) -> None:
        # Where all of them have ended, Linux says the one and macOS may say the other.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)

    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        print(f"\nnot done after {seconds:g} s, killed", file=sys.stderr, flush=True)
        # An interpreter in development mode now writes where each of its threads stands.
        end(signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        return 124
    finally:
        end(signal.SIGKILL)
        process.wait()
    if status < 0:
        print(f"\nended by signal {-status}", file=sys.stderr)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
