"""RecBole's `create_dataset` looks here for the data set of RecFound."""

from recbole_recfound.data.split.history_dataset import RecFoundDataset

__all__ = ["RecFoundDataset"]
