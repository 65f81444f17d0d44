"""What is exported of a loaded run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recbole_recfound.model.recfound import RecFound
from recbole_recfound.model.saved import SavedModel


@dataclass(frozen=True)
class Exported:
    """A loaded run of RecFound.

    Attributes:
        saved: the files of the run.
        model: the loaded model, in eval.
        tokens: of the items by id, those included that were added after loading; the first one is the padding.
        texts: likewise.
    """

    saved: SavedModel
    model: RecFound
    tokens: Sequence[str]
    texts: Sequence[str]
