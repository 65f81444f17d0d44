"""The data set of IAK, found by RecBole's `create_dataset` under the name `IAKDataset`."""

from __future__ import annotations

from typing import Any

from recbole.config import Config
from recbole.data.utils import create_dataset

from recbole_recfound.model.pretrained.base_config import base_of


def IAKDataset(config: Config) -> Any:
    """Return the data set of the base: a click, general or sequential one.

    RecBole calls it before it makes the loaders, so `config` gets the settings that follow from the base here.

    Args:
        config: settings of an IAK run.
    """
    return create_dataset(base_of(config)[0])
