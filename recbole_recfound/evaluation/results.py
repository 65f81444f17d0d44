"""Rows of the comparison table and the content of `results.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from recbole_recfound.runtime.run_folder import FORMAT

Metrics = dict[str, float]


@dataclass(frozen=True)
class Row:
    """One model in the comparison table.

    Attributes:
        model: name of the row.
        metrics: test metrics by name.
        valid_metrics: validation metrics by name.
        train_seconds: seconds of all that makes the trained model of the split data: its construction, which fits some
            of RecBole's models, texts that it reads, training, validations.
        eval_seconds: seconds of one test.
        trainable_parameters: number of trained values; 0 for models without gradients.
        converged: whether early stopping ended the training, or there is nothing to repeat; None: not known, of a base
            whose document does not say it.
        note: remark for the reader.
        details: further JSON values of the row, such as metrics by task or by domain.
        by_user: metric that chooses checkpoints, of each test user by ascending id; () where it is none of rankings.
    """

    model: str
    metrics: Metrics
    valid_metrics: Metrics
    train_seconds: float
    eval_seconds: float
    trainable_parameters: int
    converged: bool | None
    note: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    by_user: Sequence[float] = ()

    def __post_init__(self) -> None:
        # RecBole's metrics are numpy's numbers: differences and wins of them could not be written as JSON.
        for name in ("metrics", "valid_metrics"):
            object.__setattr__(self, name, {metric: float(value) for metric, value in getattr(self, name).items()})

    def renamed(self, model: str, note: str | None = None) -> Row:
        """Return the row under another name.

        Args:
            model: the new name.
            note: replaces the row's note; None: the note stays.
        """
        return replace(self, model=model, note=self.note if note is None else note)

    @property
    def training(self) -> dict[str, Any]:
        """What the folder of the trained model says of its training."""
        return {"converged": self.converged, "note": self.note}

    def to_json(self) -> dict[str, Any]:
        """Return the row as in `results.json`: `details` stand beside the other fields."""
        values = asdict(self)
        return {**values.pop("details"), **values}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Row:
        """Build a row from the output of `to_json`."""
        own = {item.name for item in fields(cls)} - {"details"}
        details = {key: value for key, value in values.items() if key not in own}
        return cls(**{key: values[key] for key in own if key in values}, details=details)


def not_converged(trained: float, unit: str = "epochs") -> str:
    """Return the note of a row whose training ended before early stopping.

    Args:
        trained: number of epochs, or what `unit` says.
        unit: of the number.
    """
    return f"not converged: stopped after {trained:g} {unit}"


def without_users(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as in `results.json`: the values of single users stand in a file of their own.

    Args:
        row: from `Row.to_json`.
    """
    return {key: value for key, value in row.items() if key != BY_USER}


BY_USER = "by_user"


@dataclass(frozen=True)
class Results:
    """The content of `results.json`.

    Attributes:
        system: name of the system that wrote the run folder; decides how the folder is loaded.
        model: name of the model.
        dataset: name of the data set.
        protocol: rules of the evaluation, see `Protocol.to_json`.
        rows: the comparison table.
        seed: seed of the run.
        versions: installed versions of the main packages.
        run: facts about the run, such as seconds and memory.
        details: what the system adds for its report.
    """

    system: str
    model: str
    dataset: str
    protocol: Mapping[str, Any]
    rows: list[Row]
    seed: int
    versions: Mapping[str, str]
    run: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the document to be written to `results.json`."""
        return {
            "system": self.system,
            "format": FORMAT,
            "model": self.model,
            "dataset": self.dataset,
            "protocol": dict(self.protocol),
            **self.details,
            "rows": [without_users(row.to_json()) for row in self.rows],
            "versions": dict(self.versions),
            "seed": self.seed,
            "run": dict(self.run),
        }
