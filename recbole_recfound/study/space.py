"""Search spaces in the syntax of RecBole's hyper files."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_recfound.config.settings import merged
from recbole_recfound.errors import ConfigError

if TYPE_CHECKING:
    from optuna.trial import Trial

KINDS = ("choice", "uniform", "quniform", "loguniform")


@dataclass(frozen=True)
class Dimension:
    """One setting of a search.

    Attributes:
        key: of the setting; an option of a setting as `loss_args.temperature`.
        kind: one of `KINDS`.
        values: of a choice.
        low, high: bounds; of a logarithmic one, the values themselves.
        step: of `quniform`.
    """

    key: str
    kind: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None

    def suggest(self, trial: Trial) -> Any:
        """Let a trial choose a value.

        Args:
            trial: of Optuna.
        """
        if self.kind == "choice":
            # Optuna keeps numbers and texts, and a setting may be a list.
            return json.loads(trial.suggest_categorical(self.key, [json.dumps(value) for value in self.values]))
        if self.step is not None and all(float(number).is_integer() for number in (self.low, self.high, self.step)):
            return trial.suggest_int(self.key, int(self.low), int(self.high), step=int(self.step))
        return trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.kind == "loguniform")

    def examples(self) -> list[Any]:
        """Return values that show whether the setting exists and takes them: all choices, or both bounds."""
        if self.kind == "choice":
            return list(self.values)
        whole = self.step is not None and all(float(number).is_integer() for number in (self.low, self.high, self.step))
        return [int(bound) if whole else bound for bound in (self.low, self.high)]

    def put(self, settings: Mapping[str, Any], value: Any) -> dict[str, Any]:
        """Return settings with a value for this key.

        Args:
            settings: by key.
            value: of the setting, or of its option.
        """
        change: Any = value
        for part in reversed(self.key.split(".")):
            change = {part: change}
        return merged(dict(settings), change)


def with_values(space: Iterable[Dimension], settings: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with a value for each key of a space.

    Args:
        space: the dimensions.
        settings: by key.
        values: by key of the dimensions.
    """
    own = dict(settings)
    for one in space:
        own = one.put(own, values[one.key])
    return own


def read_space(path: str | Path) -> list[Dimension]:
    """Read a file of lines such as `learning_rate loguniform -8,0` or `hidden_size choice [64,128]`.

    As in RecBole, the bounds of `loguniform` are natural logarithms. Values are literals; nothing is executed.

    Args:
        path: the file.

    Raises:
        ConfigError: names every wrong line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"params: {path} cannot be read ({error})") from None
    found: dict[str, Dimension] = {}
    problems = []
    for number, line in enumerate(lines, start=1):
        words = line.split("#")[0].split(maxsplit=2)
        if not words:
            continue
        try:
            dimension = _dimension(words)
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")
            continue
        if dimension.key in found:
            problems.append(f"{path}:{number}: {dimension.key} has a line already")
        found[dimension.key] = dimension
    if not problems and not found:
        problems.append(f"{path}: no line such as: learning_rate loguniform -8,-4")
    if problems:
        raise ConfigError(problems)
    return list(found.values())


def _dimension(words: list[str]) -> Dimension:
    if len(words) < 3 or words[1] not in KINDS:
        raise ValueError(f"got {' '.join(words)!r}, expected KEY, one of {', '.join(KINDS)}, and values")
    key, kind, text = words
    if kind == "choice":
        try:
            values = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values = None
        if not isinstance(values, (list, tuple)) or not values:
            raise ValueError(f"{key}: got {text!r}, expected a list, as in [0.1, 0.2]")
        return Dimension(key, kind, tuple(values))
    try:
        numbers = [float(number) for number in text.replace(" ", "").split(",")]
    except ValueError:
        numbers = []
    wanted = 3 if kind == "quniform" else 2
    if len(numbers) != wanted or not all(map(math.isfinite, numbers)) or numbers[0] >= numbers[1]:
        example = "0,10,2" if wanted == 3 else "0.1,0.5"
        raise ValueError(f"{key}: got {text!r}, expected {wanted} numbers, the smaller bound first, as in {example}")
    low, high, *step = numbers
    if kind == "loguniform":
        return Dimension(key, kind, low=math.exp(low), high=math.exp(high))
    if step and step[0] <= 0:
        raise ValueError(f"{key}: a step of {step[0]:g}, expected one above 0")
    return Dimension(key, kind, low=low, high=high, step=step[0] if step else None)
