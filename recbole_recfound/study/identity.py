"""The folder of a study: the same settings, data and packages find the same one again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole_recfound.data.records.files import paths_in
from recbole_recfound.runtime.run_folder import RunFolder, digests_of, identity_of
from recbole_recfound.runtime.signals import Interrupted, interruptible
from recbole_recfound.runtime.versions import versions
from recbole_recfound.system.run import backbones_read, weights_read


@contextmanager
def open_study(path: Path, identity: str) -> Iterator[RunFolder]:
    """Write the folder of a study, which no other process writes; an interruption says how to continue.

    Args:
        path: the folder.
        identity: of the study.
    """
    with interruptible(), RunFolder(path, identity) as folder:
        try:
            yield folder
        except Interrupted as error:
            error.advice = f"the same command continues in {path}"
            raise


@contextmanager
def study_folder(
    kind: str, model: str, dataset: str, settings: Mapping[str, Any], further: Mapping[str, Any] | None = None
) -> Iterator[RunFolder]:
    """Open the folder of a study under the output folder of its settings.

    Args:
        kind: first part of the name.
        model: name of the model.
        dataset: name of the data set.
        settings: of the user.
        further: what else makes it another study.
    """
    # What `identity_of` takes for circumstances decides here which rows are there already.
    known = {
        "settings": dict(settings),
        "files": _digests(model, settings, dataset),
        "model": model,
        "versions": versions(),
    }
    identity = identity_of({**known, **(further or {})})
    path = Path(settings.get("output_dir", "runs")) / f"{kind}-{model}-{dataset}-{identity}"
    with open_study(path, identity) as folder:
        yield folder


def _digests(model: str, settings: Mapping[str, Any], dataset: str) -> dict[str, str]:
    """Hash data set, records, base and backbone: other content under the same name is another study."""
    folders = [Path(settings.get("data_path", "dataset")), Path(settings.get("data_path", "dataset")) / dataset]
    files = [file for folder in folders for file in folder.glob(f"{dataset}.*")]
    files += weights_read(settings)
    files += map(Path, paths_in(settings.get("task_files") or []))
    return {**digests_of({str(file): file for file in sorted(files)}), **backbones_read(model, settings)}
