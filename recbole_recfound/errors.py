"""User-facing errors. The CLI prints them without a traceback and exits with status 2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

WRONG_VALUES = "wrong values"
"""Heading of problems that belong to no other group."""


class RecFoundError(Exception):
    """Base of every error that the command line prints without a traceback."""


class ConfigError(RecFoundError, ValueError):
    """One or several settings are wrong; each problem names the key, its value and what is expected.

    Args:
        problems: one problem, several, or heading -> problems.

    Attributes:
        groups: heading -> problems.

    Example:
        >>> print(ConfigError("seed: got 'x', expected a whole number"))
        seed: got 'x', expected a whole number
        >>> print(ConfigError({"unknown keys": ["sed: unknown setting"], "wrong values": ["topk: got 0"]}))
        2 problems in the settings
        unknown keys:
          sed: unknown setting
        wrong values:
          topk: got 0
    """

    def __init__(self, problems: str | Sequence[str] | Mapping[str, Sequence[str]]) -> None:
        super().__init__(problems)
        if isinstance(problems, str):
            problems = [problems]
        if not isinstance(problems, Mapping):
            problems = {WRONG_VALUES: problems}
        self.groups = {heading: list(lines) for heading, lines in problems.items() if lines}

    @property
    def problems(self) -> list[str]:
        """All problems, one line each."""
        return [line for lines in self.groups.values() for line in lines]

    def __str__(self) -> str:
        problems = self.problems
        if len(problems) == 1:
            return problems[0]
        lines = [f"{len(problems)} problems in the settings"]
        for heading, group in self.groups.items():
            lines += [f"{heading}:", *(f"  {line}" for line in group)]
        return "\n".join(lines)


class DataError(RecFoundError, ValueError):
    """One or several data files are missing or malformed; names file:line (or row and field) and what to do.

    Args:
        problems: one problem, or several.
        count: number of problems, where only the first are listed.
        hint: what to do about several problems, or about each of them.

    Attributes:
        problems: the problems listed, one line each.

    Example:
        >>> print(DataError("a.jsonl:1: not JSON"))
        a.jsonl:1: not JSON
        >>> print(DataError(["a.jsonl:1: not JSON", "a.jsonl:7: not UTF-8"]))
        2 problems in the data
          a.jsonl:1: not JSON
          a.jsonl:7: not UTF-8
    """

    def __init__(self, problems: str | Sequence[str], count: int | None = None, hint: str = "") -> None:
        super().__init__(problems, count, hint)
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        self.count = len(self.problems) if count is None else count
        self.hint = hint

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0] + (f" ({self.hint})" if self.hint else "")
        lines = [f"{self.count:,} problems in the data", *(f"  {line}" for line in self.problems)]
        return "\n".join([*lines, self.hint] if self.hint else lines)


class BackboneError(RecFoundError, ValueError):
    """A backbone is missing or unusable: names it and gives the command that repairs it."""


class TrainingError(RecFoundError, RuntimeError):
    """Training cannot continue (NaN or infinite loss, an adapter without effect): names task and batch."""


@contextmanager
def in_one_line(subject: str, kind: type[RecFoundError] = ConfigError) -> Iterator[None]:
    """Turn whatever a library raises over a user's data or settings into one line with its cause.

    Args:
        subject: what was done with what, at the beginning of the line.
        kind: error that is raised; the library's own stays its cause.

    Raises:
        RecFoundError: of this kind; errors of this package are raised as they are.
    """
    try:
        yield
    except RecFoundError:
        raise
    except Exception as error:
        raise kind(f"{subject}: {cause_of(error)}") from error


def cause_of(error: BaseException) -> str:
    """Return the message of an error as one line; an error without a sentence is named by its type.

    Args:
        error: of any library.
    """
    text = " ".join(str(error).split())
    return text if " " in text else f"{type(error).__name__} {text}".strip()
