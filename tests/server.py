"""`recfound serve` in a process of its own, as a user starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

import httpx

CHECKOUT = Path(__file__).resolve().parents[1]
PROGRAM = "import sys; from recbole_recfound.cli import main; sys.exit(main())"


class Server:
    """A server that listens on a free port until the block ends.

    Args:
        run: the run folder.
        options: further words of the command.
        variables: environment variables.

    Attributes:
        url: where it is asked.
    """

    def __init__(self, run: str | Path, *options: str, **variables: str) -> None:
        command = [sys.executable, "-c", PROGRAM, "serve", str(run), "--port", "0", *options]
        environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"} | variables
        # A process group of its own, so that Ctrl-C of a terminal, which all of a group get, can be sent.
        # Into a file: a pipe that nobody reads would stop a server that prints much.
        handle, name = tempfile.mkstemp(suffix=".log")
        self.log = Path(name)
        self.process = subprocess.Popen(command, env=environment, stdout=handle, stderr=handle, start_new_session=True)
        os.close(handle)

    def __enter__(self) -> Server:
        while self.process.poll() is None:
            lines = self.printed.splitlines()
            addresses = [line.split()[0] for line in lines if line.startswith("http://")]
            if addresses and self._answers(addresses[0]):
                self.url = addresses[0]
                return self
            time.sleep(0.05)
        printed = self.printed
        self.log.unlink()
        raise RuntimeError(f"the server did not start: {printed}")

    @staticmethod
    def _answers(url: str) -> bool:
        try:
            return httpx.get(f"{url}/health", timeout=60).status_code == 200
        except httpx.TransportError:
            return False

    @property
    def printed(self) -> str:
        """All that the server has printed."""
        return self.log.read_text()

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)
        self.log.unlink()

    def stop(self, number: int) -> tuple[int, str]:
        """Send a signal to the whole process group; return the exit code and all that was printed."""
        os.killpg(self.process.pid, number)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and all that was printed."""
        return self.process.wait(timeout=60), self.printed
