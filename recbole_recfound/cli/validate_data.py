"""`recfound validate-data`: checks files of records without training on them."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_recfound.cli.arguments import parse_arguments
from recbole_recfound.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from recbole_recfound.data.records.summary import FileSummary

USAGE = """usage: recfound validate-data FILES... [--backbone=NAME]

Checks every record of files of JSON lines (or of one JSON array each) and prints, without training: examples of each
task, lengths in tokens of the backbone's tokenizer (median, 90%, 99%, longest), ignored keys, duplicate questions
within a file and between files (train and test), verbatim and without regard to case, blanks and punctuation. Lines
that are not records are all counted; the first 100 of each file are listed with file:line, and the exit status is 2."""
DEFAULT_BACKBONE = "smollm2-135m-instruct"


def command(argv: list[str]) -> int:
    """Validate files and print a summary of their contents.

    Args:
        argv: the words after the verb.

    Returns:
        0: every line is a record.

    Raises:
        DataError: lines that are not records (file:line and key), files that cannot be read or have no record.
        ConfigError: no file, or an unknown option.
    """
    files, options = _split(argv)
    if options.pop("help", False):
        print(USAGE)
        return 0
    backbone = str(options.pop("backbone", DEFAULT_BACKBONE))
    if options:
        hint = "; bad lines are all listed without it" if "skip_bad_rows" in options else ""
        raise ConfigError(f"{next(iter(options))}: unknown option of validate-data, which has backbone{hint}")
    if not files:
        raise ConfigError("validate-data: name at least one file (recfound validate-data --help)")
    real = [Path(path).resolve() for path in files]
    if len(set(real)) < len(real):
        raise ConfigError(
            f"validate-data: {next(path for path in real if real.count(path) > 1)} is specified more than once"
        )
    from recbole_recfound.backbone.load import load_tokenizer
    from recbole_recfound.data.records.broken import Problems
    from recbole_recfound.data.records.summary import overlap

    tokenizer = load_tokenizer(backbone)
    problems = Problems()
    summaries = []
    for path in map(Path, files):
        try:
            summary = _summarise(path, tokenizer)
        except DataError as error:
            problems.add(error.problems, error.count)
            continue
        problems.add(*summary.problems())
        if summary.records:
            print("\n".join(summary.lines()))
            summaries.append(summary)
    for first, second in combinations(summaries, 2):
        print(overlap(first, second))
    problems.check()
    return 0


def _split(argv: list[str]) -> tuple[list[str], dict[str, str | bool]]:
    """Split words into files and options; only `--backbone` takes the next word as its value."""
    files: list[str] = []
    words: list[str] = []
    for before, word in zip(["", *argv], argv, strict=False):
        (words if word.startswith("-") or before == "--backbone" else files).append(word)
    return files, parse_arguments(words)


def _summarise(path: Path, tokenizer: PreTrainedTokenizerBase) -> FileSummary:
    """Read one file behind a progress bar."""
    from tqdm import tqdm

    from recbole_recfound.data.records.summary import FileSummary

    size = path.stat().st_size if path.is_file() else 0
    with tqdm(total=size, unit="B", unit_scale=True, desc=path.name, leave=False) as bar:
        return FileSummary(path, tokenizer, lambda offset: bar.update(offset - bar.n))
