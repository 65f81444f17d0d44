"""The data set of RecFound, under the name that RecBole's `create_dataset` looks up."""

from recbole_recfound.data.split.history_dataset import RecFoundDataset

__all__ = ["RecFoundDataset"]
