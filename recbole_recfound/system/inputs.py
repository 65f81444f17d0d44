"""The files that a run or a study reads: their digests decide which runs are the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_recfound.backbone.load import backbone_content
from recbole_recfound.compat.unpickling import OPENED
from recbole_recfound.config.models import OUR_MODELS
from recbole_recfound.config.property_files import defaults_beside_recbole
from recbole_recfound.data.records.files import by_part, paths_in
from recbole_recfound.errors import DataError
from recbole_recfound.runtime.file_digests import changed_names
from recbole_recfound.runtime.run_folder import digests_of


@dataclass(frozen=True)
class Inputs:
    """The files that a run or a study reads, as they were when it began.

    Attributes:
        model: name of the model.
        dataset: name of the data set.
        folder: of its atomic files.
        settings: of the run or study.
        digests: of the files, by name; a backbone of the hub has its revision.
    """

    model: str
    dataset: str
    folder: Path
    settings: Mapping[str, Any]
    digests: Mapping[str, str]

    @classmethod
    def of(cls, model: str, dataset: str, folder: Path, settings: Mapping[str, Any]) -> Inputs:
        """Hash the files as they are now.

        Args:
            model: name of the model.
            dataset: name of the data set.
            folder: of its atomic files.
            settings: of the run or study.
        """
        settings = dict(settings)
        return cls(model, dataset, folder, settings, _digests(model, dataset, folder, settings))

    @contextmanager
    def unchanged(self, reader: str) -> Iterator[None]:
        """Refuse the result of a block that read the files, or the reason of its failure, if they have changed.

        Only files whose size or time of change is another one are hashed again.

        Args:
            reader: what began with these files, for the message: run or study.

        Raises:
            DataError: names the files.
        """
        try:
            yield
        except Exception:
            self._check(reader)
            raise
        self._check(reader)

    def _check(self, reader: str) -> None:
        now = _digests(self.model, self.dataset, self.folder, self.settings)
        if names := changed_names(self.digests, now):
            raise DataError(
                f"{', '.join(names)} changed since this {reader} began: restore it and call again, or start a new "
                f"{reader}"
            )


def _digests(model: str, dataset: str, folder: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the digests of the data set by the names of its files, and of all others by their paths."""
    files = {file.name: file for file in sorted(folder.glob(f"{dataset}.*"))}
    if "LDiffRec" in _models(model, settings):
        files["item_emb.npy"] = folder / "item_emb.npy"
    others = [*map(Path, paths_in(settings.get("task_files") or [])), *_weights_read(settings)]
    files |= {str(file.resolve()): file for file in others}
    return {**digests_of(files), **_backbones_read(model, settings)}


def _models(model: str, settings: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the settings of its own of each model of a run: the run's, its base and its baselines."""
    own = settings.get("baseline_args") or {}
    base = {settings["base_model"]: settings.get("base_args") or {}} if settings.get("base_model") else {}
    return {**{name: own.get(name) or {} for name in settings.get("baselines") or []}, **base, model: {}}


def _weights_read(settings: Mapping[str, Any]) -> list[Path]:
    """Return the files of trained models that a run reads: to start from, and to score texts by."""
    named = [settings.get("base_checkpoint"), (settings.get("iak_args") or {}).get("warm_start")]
    of_models = [settings, settings.get("base_args") or {}, *(settings.get("baseline_args") or {}).values()]
    named += [own.get(key) for own in of_models for key in OPENED]
    paths = [Path(name) for name in named if name and isinstance(name, str)]
    folders = [path for path in paths if path.is_dir()]  # of a base, or of a run that holds one or its own adapter
    inside = [file for path in folders for pattern in ("*", "*/*") for file in path.glob(f"{pattern}.safetensors")]
    scoring = (settings.get("test_args") or {}).get("bert_score_model")
    inside += Path(scoring).glob("*") if scoring else ()
    return sorted([*inside, *(path for path in paths if path.is_file())])


def _backbones_read(model: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the content of the backbones that a run reads."""
    readers = {
        name: own
        for name, own in _models(model, settings).items()
        if name in OUR_MODELS and "backbone" in defaults_beside_recbole(name)
    }
    named = {own.get("backbone") or settings.get("backbone") for own in readers.values()}
    return {key: value for name in sorted(filter(None, named)) for key, value in backbone_content(name).items()}


def absolute_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run that name files, with absolute paths: it can be loaded from anywhere.

    Args:
        settings: of the run.
    """
    parts: Mapping[str, list[str]] = by_part(settings.get("task_files") or [])
    records = {part: [str(Path(path).resolve()) for path in paths] for part, paths in parts.items()}
    paths: dict[str, Any] = {"task_files": records if any(records.values()) else []}
    for key in ("backbone", "base_checkpoint"):
        if settings.get(key) and Path(settings[key]).exists():
            paths[key] = str(Path(settings[key]).resolve())
    return paths
