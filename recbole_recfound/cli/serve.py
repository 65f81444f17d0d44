"""`recfound serve`: a run over HTTP, with a page to try it."""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import sys
import threading
from typing import TYPE_CHECKING

from tqdm import tqdm

from recbole_recfound.cli.words import Words, load
from recbole_recfound.errors import ConfigError, RecFoundError
from recbole_recfound.runtime.finished import read_results
from recbole_recfound.runtime.signals import interruptible

if TYPE_CHECKING:
    from fastapi import FastAPI

ABOUT = "Serve a run over HTTP: /recommend, /items, /generate, /health, and a page to try it at /."
ENVIRONMENT = "RECFOUND_SERVE"
"""Words of the command, for worker processes."""
WORKER = "recbole_recfound.cli.serve:create_worker"
KEY = "RECFOUND_API_KEY"
STARTUP_FAILURE = 3
"""Exit code by which uvicorn knows a worker that cannot start."""
LOCAL = ("127.0.0.1", "localhost", "::1", "[::1]")


def command(argv: list[str]) -> int:
    """Serve until a signal.

    Args:
        argv: the words after the verb.

    Raises:
        ConfigError: no such run, a wrong option, a port in use, or missing packages.
        DataError: data or files are missing or damaged.
        Interrupted: SIGTERM or Ctrl-C, after which requests under way were answered.
    """
    given = _parse(argv)
    try:
        from recbole_recfound.serving.http import listen
    except ImportError:
        raise ConfigError('serve: needs fastapi and uvicorn: pip install "recbole_recfound[serve]"') from None
    read_results(given.run)
    with interruptible(), listen.bind(given.host, given.port) as listener:
        if not is_local(given.host) and not given.api_key:
            print(
                f"note: {given.host} is open to other machines, and without --api_key to everybody on them", flush=True
            )
        app: FastAPI | str = WORKER
        several = f"{given.workers} workers; " if given.workers > 1 else ""
        if given.workers == 1:
            app = create_app(given)
        else:
            os.environ[ENVIRONMENT] = json.dumps(argv)
        print(f"{listen.url_of(listener)} ({several}operations: /docs)", flush=True)
        listen.serve(app, listener, given.workers)
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    words = Words("serve", ABOUT)
    words.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    words.add_argument("--port", type=int, default=8000, help="port; 0: any free one (default: 8000)")
    words.add_argument(
        "--api_key", default=os.environ.get(KEY), help=f"key that requests need in X-API-Key (default: ${KEY}, or none)"
    )
    words.add_argument("--workers", type=int, default=1, help="processes, each with the whole run (default: 1)")
    words.add_loading()
    given = words.parse_args(argv)
    problems = []
    if not 0 <= given.port < 65536:
        problems.append(f"port: got {given.port}, expected 0 to 65535")
    if given.workers < 1:
        problems.append(f"workers: got {given.workers}, expected at least 1")
    if given.api_key == "":
        problems.append("api_key: got an empty key, expected characters, or no option for a server without a key")
    elif given.api_key is not None and not given.api_key.isascii():
        problems.append("api_key: expected ASCII characters, as headers have")
    if problems:
        raise ConfigError(problems)
    return given


def is_local(host: str) -> bool:
    """Return whether an address is reached from this machine alone.

    Args:
        host: as typed.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def create_app(given: argparse.Namespace) -> FastAPI:
    """Load a run and its baselines and build the application.

    Args:
        given: words of the command.
    """
    from recbole_recfound.serving.baselines import load_baselines
    from recbole_recfound.serving.http.app import create_app

    results = read_results(given.run)
    run = load(given)
    run.prepare()
    baselines, notes = load_baselines(given.run, given.data_path)
    for note in notes:
        print(f"note: {note}", flush=True)
    facts = {
        "model": results["model"],
        "dataset": results["dataset"],
        "tasks": list(dict.fromkeys([*run.tasks, *(task["name"] for task in results.get("tasks") or [])])),
    }
    return create_app(
        run,
        facts,
        baselines=baselines,
        api_key=given.api_key,
        hosts=LOCAL if is_local(given.host) else ("*",),
        adds_items=given.workers == 1,
    )


def create_worker() -> FastAPI:
    """Build the application of one of several workers, from the words of the command."""
    # Its other lock is a semaphore of the system, which a worker that ends by a signal would leave behind.
    tqdm.set_lock(threading.RLock())
    try:
        return create_app(_parse(json.loads(os.environ[ENVIRONMENT])))
    except RecFoundError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr, flush=True)
        # uvicorn starts a worker again unless it ends so.
        sys.exit(STARTUP_FAILURE)
