"""The folder of a study: the same settings, data and packages find the same one again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from recbole_recfound.runtime.run_folder import RunFolder, identity_of
from recbole_recfound.runtime.signals import Interrupted, interruptible
from recbole_recfound.runtime.versions import versions
from recbole_recfound.system.inputs import Inputs, absolute_paths
from recbole_recfound.system.request import Request


class StudyFolder(RunFolder):
    """The folder of a study. Each of its parts reads the data again, and must find those that the study began with.

    Args:
        path: the folder.
        identity: of the study.
        inputs: the files that its parts read.
    """

    def __init__(self, path: Path, identity: str, inputs: Inputs) -> None:
        super().__init__(path, identity)
        self._inputs = inputs

    def unchanged(self) -> AbstractContextManager[None]:
        """Return a block for a part of the study, whose result is refused if files have changed."""
        return self._inputs.unchanged("study")

    def part(
        self,
        model: str,
        dataset: str,
        settings: Mapping[str, Any],
        *,
        runs: str = "runs",
        baselines: Sequence[str] | None = None,
    ) -> Request:
        """Return the request of a part of the study: begun, it is resumed; finished, its results are taken.

        Args:
            model: name of the model.
            dataset: name of the data set.
            settings: of the part.
            runs: folder of such parts.
            baselines: as for `Request.of`.
        """
        own = {**settings, "output_dir": str(self.path / runs), "resume": "auto"}
        return replace(Request.of(model, dataset, None, own, baselines), of_study=True)

    def row(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return a saved row, or compute it from the study's data and save it.

        Args:
            name: of the row.
            compute: gives the row.

        Raises:
            DataError: files have changed; the row is not saved.
        """

        def of_these_data() -> dict[str, Any]:
            with self.unchanged():
                return compute()

        return super().row(name, of_these_data)


@contextmanager
def open_study(path: Path, identity: str, inputs: Inputs) -> Iterator[StudyFolder]:
    """Write the folder of a study, which no other process writes; an interruption says how to continue.

    Args:
        path: the folder.
        identity: of the study.
        inputs: the files that its parts read.
    """
    with interruptible(), StudyFolder(path, identity, inputs) as folder:
        try:
            yield folder
        except Interrupted as error:
            error.advice = f"the same command continues in {path}"
            raise


@contextmanager
def study_folder(
    kind: str, model: str, dataset: str, settings: Mapping[str, Any], further: Mapping[str, Any] | None = None
) -> Iterator[StudyFolder]:
    """Open the folder of a study under the output folder of its settings.

    Args:
        kind: first part of the name.
        model: name of the model.
        dataset: name of the data set.
        settings: of the user.
        further: what else makes it another study.
    """
    inputs = Inputs.of(model, dataset, Path(settings.get("data_path", "dataset")) / dataset, settings)
    known = {
        **settings,
        **absolute_paths(settings),
        "files": inputs.digests,
        "model": model,
        "versions": versions(),
        # For a run a circumstance; here it decides which rows there are already.
        "seconds": settings.get("time_budget"),
    }
    identity = identity_of({**known, **(further or {})})
    path = Path(settings.get("output_dir", "runs")) / f"{kind}-{model}-{dataset}-{identity}"
    with open_study(path, identity, inputs) as folder:
        yield folder
