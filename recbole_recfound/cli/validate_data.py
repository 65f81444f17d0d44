"""`recfound validate-data`: checks JSON-lines files of records without training on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recbole_recfound.cli.arguments import parse_arguments, read_values
from recbole_recfound.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from recbole_recfound.data.records.questions import Questions
    from recbole_recfound.data.records.records import Record

USAGE = """usage: recfound validate-data FILES... [--backbone=NAME] [--skip_bad_rows]

Checks every line of JSON-lines files of records and prints, without training: examples of each task, lengths in tokens
of the backbone's tokenizer (median, 90%, 99%, longest), duplicate questions within a file and between files (train and
test). Exits with status 2 at the first line that is not a record; with --skip_bad_rows, counts such lines and lists the
first 1,000."""
PERCENTILES = (50, 90, 99, 100)
DEFAULT_BACKBONE = "smollm2-135m-instruct"


def command(argv: list[str]) -> int:
    """Validate files and print a summary of their contents.

    Args:
        argv: the words after the verb.

    Returns:
        0; bad lines that were skipped are listed.

    Raises:
        DataError: a line that is not a record (file:line and key).
        ConfigError: no file, or an unknown option.
    """
    files, options = _split(argv)
    if options.pop("help", False):
        print(USAGE)
        return 0
    skip_bad_rows = options.pop("skip_bad_rows", False)
    backbone = str(options.pop("backbone", DEFAULT_BACKBONE))
    if options:
        raise ConfigError(
            f"{next(iter(options))}: unknown option of validate-data, which has backbone and skip_bad_rows"
        )
    if not files:
        raise ConfigError("validate-data: name at least one file (recfound validate-data --help)")
    real = [Path(path).resolve() for path in files]
    if len(set(real)) < len(real):
        raise ConfigError(
            f"validate-data: {next(path for path in real if real.count(path) > 1)} is specified more than once"
        )
    from recbole_recfound.backbone.load import load_tokenizer
    from recbole_recfound.config.settings import check_value

    skip = check_value("skip_bad_rows", read_values({"skip_bad_rows": skip_bad_rows})["skip_bad_rows"])
    tokenizer = load_tokenizer(backbone)
    asked = {}
    for path in files:
        asked[path] = _check(Path(path), skip, tokenizer)
    _overlaps(asked)
    return 0


def _split(argv: list[str]) -> tuple[list[str], dict[str, str | bool]]:
    """Split words into files and options; only `--backbone` takes the next word as its value."""
    files: list[str] = []
    words: list[str] = []
    for before, word in zip(["", *argv], argv, strict=False):
        (words if word.startswith("-") or before == "--backbone" else files).append(word)
    return files, parse_arguments(words)


def _check(path: Path, skip: bool, tokenizer: PreTrainedTokenizerBase) -> Questions:
    """Print the content of one file, and return its questions."""
    from tqdm import tqdm

    from recbole_recfound.data.records.disk_rows import DiskRows
    from recbole_recfound.data.records.questions import Questions
    from recbole_recfound.data.records.records import (
        MOST_LISTED,
        BadRecord,
        GenerativeRecord,
        fingerprint,
        read_lines,
    )
    from recbole_recfound.data.task import TASKS
    from recbole_recfound.data.text import plain_tokens

    lengths: dict[tuple[str, str], Counter[int]] = {}
    records: dict[str, int] = {}
    fingerprints = DiskRows(np.uint64)
    bad = unread = first_unread = 0
    listed: list[str] = []
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
    with file, tqdm(total=path.stat().st_size, unit="B", unit_scale=True, desc=path.name, leave=False) as bar:
        for number, offset, record in read_lines(file):
            bar.update(offset - bar.n)
            if isinstance(record, BadRecord):
                if not skip:
                    raise DataError(f"{path}:{number}: {record} (--skip_bad_rows lists all such lines)")
                bad += 1
                if len(listed) < MOST_LISTED:
                    listed.append(f"{path}:{number}: {record}")
                continue
            records[record.task] = records.get(record.task, 0) + 1
            if isinstance(record, GenerativeRecord) and not TASKS[record.task].parses(record.answer):
                unread, first_unread = unread + 1, first_unread or number
            fingerprints.append(fingerprint(record))
            for part, texts in _texts(record).items():
                lengths.setdefault((record.task, part), Counter()).update(map(len, plain_tokens(texts, tokenizer)))
    if not records:
        for line in listed:
            print(f"  skipped {line}")
        raise DataError(f"{path}:1: no record in this file" + (f" ({bad} bad lines)" if bad else ""))
    print(f"{path}: {sum(records.values())} records" + "".join(f", {name} {count}" for name, count in records.items()))
    for (name, part), counts in sorted(lengths.items(), key=lambda found: list(records).index(found[0][0])):
        told = ", ".join(f"{p}%: {value}" for p, value in zip(PERCENTILES, percentiles(counts), strict=True))
        print(f"  {name} {part}, tokens: {told}")
    asked = Questions(fingerprints)
    print(f"  {len(asked) - asked.distinct()} records repeat the question of an earlier one")
    if unread:
        print(
            f"  {unread} answers do not fit their task (rejected in validation and test files), "
            f"the first: {path}:{first_unread}"
        )
    for line in listed:
        print(f"  skipped {line}")
    if bad:
        print(
            f"  {bad} bad lines skipped"
            + (f", of which the first {MOST_LISTED} are listed" if bad > MOST_LISTED else "")
        )
    return asked


def percentiles(counts: Mapping[int, int]) -> list[int]:
    """Return, for each of `PERCENTILES`, the length that this share of the texts does not exceed.

    Args:
        counts: length -> number of texts with it, for constant memory.
    """
    lengths = np.array(sorted(counts))
    up_to = np.cumsum([counts[length] for length in lengths.tolist()])
    places = np.searchsorted(up_to, np.array(PERCENTILES) / 100 * up_to[-1] - 1e-9)
    return lengths[places].tolist()


def _texts(record: Record) -> dict[str, list[str]]:
    """Group a record's texts by their part."""
    from recbole_recfound.data.records.records import GenerativeRecord

    if isinstance(record, GenerativeRecord):
        return {"prompt": [record.prompt], "answer": [record.answer]}
    parts = {"query": [record.query], "pos": record.positives, "neg": record.negatives}
    return {part: [" ".join(pair) for pair in pairs] for part, pairs in parts.items() if pairs}


def _overlaps(asked: dict[str, Questions]) -> None:
    names = list(asked)
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            both = asked[first].shared(asked[second])
            print(
                f"{first} and {second}: {both} questions in both"
                + (" (a leak, if one tests the other)" if both else "")
            )
