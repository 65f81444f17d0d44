"""`recfound serve`: a run over HTTP, with a page to try it."""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
from typing import TYPE_CHECKING

from recbole_recfound.cli.words import Words, load
from recbole_recfound.errors import ConfigError

if TYPE_CHECKING:
    from fastapi import FastAPI

ABOUT = "Serve a run over HTTP: /recommend, /items, /generate, /health, and a page to try it at /."
ENVIRONMENT = "RECFOUND_SERVE"
"""Words of the command, for worker processes."""
KEY = "RECFOUND_API_KEY"
LOCAL = ("127.0.0.1", "localhost", "[::1]")


def command(argv: list[str]) -> int:
    """Serve until a signal.

    Args:
        argv: the words after the verb.

    Returns:
        0.

    Raises:
        ConfigError: no such run, a wrong option, or missing packages.
        DataError: data or files are missing or damaged.
    """
    given = _parse(argv)
    try:
        import uvicorn
    except ImportError:
        raise ConfigError('serve: needs fastapi and uvicorn: pip install "recbole_recfound[serve]"') from None
    if not is_local(given.host) and not given.api_key:
        print(f"note: {given.host} is open to other machines, and without --api_key to everybody on them", flush=True)
    limits = {"host": given.host, "port": given.port, "log_level": "warning", "timeout_keep_alive": 5}
    if given.workers == 1:
        app = create_app(given)
        print(f"http://{given.host}:{given.port} (operations: /docs)", flush=True)
        uvicorn.run(app, **limits)
    else:
        os.environ[ENVIRONMENT] = json.dumps(argv)
        print(f"http://{given.host}:{given.port} ({given.workers} workers; operations: /docs)", flush=True)
        uvicorn.run("recbole_recfound.cli.serve:create_worker", factory=True, workers=given.workers, **limits)
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    words = Words("serve", ABOUT)
    words.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    words.add_argument("--port", type=int, default=8000, help="port (default: 8000)")
    words.add_argument(
        "--api_key", default=os.environ.get(KEY), help=f"key that requests need in X-API-Key (default: ${KEY}, or none)"
    )
    words.add_argument("--workers", type=int, default=1, help="processes, each with the whole run (default: 1)")
    words.add_loading()
    given = words.parse_args(argv)
    problems = []
    if not 0 < given.port < 65536:
        problems.append(f"port: got {given.port}, expected 1 to 65535")
    if given.workers < 1:
        problems.append(f"workers: got {given.workers}, expected at least 1")
    if given.api_key is not None and not given.api_key.isascii():
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
    from recbole_recfound.system.load import read_results

    results = read_results(given.run)
    run = load(given)
    baselines, notes = load_baselines(given.run, given.data_path)
    for note in notes:
        print(f"note: {note}", flush=True)
    facts = {
        "model": results["model"],
        "dataset": results["dataset"],
        "tasks": [task["name"] for task in results.get("tasks") or []],
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
    return create_app(_parse(json.loads(os.environ[ENVIRONMENT])))
