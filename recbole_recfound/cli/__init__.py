"""The command line: `recfound VERB --key=value ...`, and `run_recfound.py`, which is `recfound run`."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from recbole_recfound import __version__
from recbole_recfound.errors import ConfigError, DataError, RecFoundError, cause_of
from recbole_recfound.runtime.ranks import is_main, rank, world
from recbole_recfound.runtime.signals import Interrupted

VERBS = {
    "run": ("recbole_recfound.cli.run", "train, evaluate and compare on a data set"),
    "compare": (
        "recbole_recfound.cli.compare",
        "the long table: more baselines and every ablation, resumable row by row",
    ),
    "recommend": ("recbole_recfound.cli.recommend", "items for a history of tokens, or for a known user of a run"),
    "topk": ("recbole_recfound.cli.topk", "the best items of all known users of a run, as a file"),
    "evaluate": ("recbole_recfound.cli.evaluate", "score a finished run on its own or on other data"),
    "serve": ("recbole_recfound.cli.serve", "a run over HTTP, with a page to try it"),
    "export": ("recbole_recfound.cli.export", "one task of a run for PEFT, sentence-transformers or onnxruntime"),
    "distill": ("recbole_recfound.cli.distill", "a small student of a click model for devices, in 8 bits"),
    "edge": ("recbole_recfound.cli.edge", "items for a history by a distilled student, without torch"),
    "info": ("recbole_recfound.cli.info", "protocol, table and versions of a finished run"),
    "validate-data": ("recbole_recfound.cli.validate_data", "check files of records without training"),
    "tune": ("recbole_recfound.cli.tune", "a search for settings by validation, resumable trial by trial"),
    "seeds": ("recbole_recfound.cli.seeds", "the same run with several seeds: means, spread, paired differences"),
}
"""Verb -> (module with `command(argv: list[str]) -> int`, one line of help). Modules are imported on first use."""
MAIN_FIRST = 5.0
"""Seconds that another process waits before it prints an error, which the main process may print too."""


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after the program's name; None: those of this process.

    Returns:
        The exit code: 0, 2 for errors of the user (a line on stderr for each), 130 after Ctrl-C, 143 after SIGTERM,
        141 where nobody reads the output any more (`| head`).
    """
    # Idle threads that spin take the cores that other threads need: beside another process, a step can take 50 times
    # as long. Read when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = _dispatch(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # What is still buffered would fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except RecFoundError as error:
        several = isinstance(error, (ConfigError, DataError)) and len(error.problems) > 1
        _say(str(error) if several else " ".join(str(error).split()))
        return 2
    except Interrupted as error:
        if is_main() or not error.saved:
            _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except Exception as error:
        line = _of_system(error) or _of_library(error)
        if line is None:
            raise
        _say(f"{line}{_keep_traceback(error)}")
        return 2


def _say(line: str) -> None:
    """Print an error; of several processes the main one speaks, and another one where it alone has failed."""
    if not is_main():
        # Where the main process has failed as well, the launcher ends this one meanwhile.
        time.sleep(MAIN_FIRST)
    print("error:" if is_main() else f"error (process {rank()} of {world()}):", line, file=sys.stderr, flush=True)


def _of_system(error: Exception) -> str | None:
    """Return what the machine could not do: a full disk, a folder that cannot be written, too little memory."""
    of_torch = isinstance(error, RuntimeError) and "allocate memory" in str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or of_torch:
        return "not enough memory; smaller batches (train_batch_size, eval_batch_size) need less"
    if world() > 1 and "Connection" in str(error) and "peer" in str(error):
        return "another process of this run has ended; its own message says why"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return None


def _of_library(error: Exception) -> str | None:
    """Return what a library said of the user's data or settings; None for an error that this package raised itself."""
    frames = traceback.extract_tb(error.__traceback__)
    place = Path(frames[-1].filename).parts if frames else ()
    if "site-packages" not in place or __package__.partition(".")[0] in place:
        return None
    return f"{place[place.index('site-packages') + 1].removesuffix('.py')}: {cause_of(error)}"


def _keep_traceback(error: Exception) -> str:
    """Write the traceback to the run's log, and return where it stands; "" where the log cannot be written either."""
    handlers = logging.getLogger().handlers
    files = [handler for handler in handlers if isinstance(handler, logging.FileHandler)]
    try:
        for handler in files:
            with open(handler.baseFilename, "a", encoding="utf-8") as log:
                log.write("".join(traceback.format_exception(error)))
    except OSError:
        return ""
    return f" (traceback: {files[-1].baseFilename})" if files else ""


def _dispatch(argv: list[str]) -> int:
    verb, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if verb in ("--help", "-h", "help"):
        print(_usage())
        return 0
    if verb == "--version":
        print(f"recbole_recfound {__version__}")
        return 0
    if verb not in VERBS:
        raise ConfigError(f"unknown command {verb!r}; commands: {', '.join(VERBS)} (recfound --help)")
    if world() > 1 and verb != "run":
        raise ConfigError(f"recfound {verb} runs in one process, not in {world()}: start it without a launcher")
    module, _ = VERBS[verb]
    return importlib.import_module(module).command(rest)


def _usage() -> str:
    verbs = "\n".join(f"  {verb:<14}{line}" for verb, (_, line) in VERBS.items())
    usage = "usage: recfound COMMAND [--key=value ...]"
    return f"{usage}\n\ncommands:\n{verbs}\n\nrecfound COMMAND --help lists every option."
