"""The data set of M6Rec, under the name that RecBole's `create_dataset` looks up."""

from recbole_recfound.data.behaviour.dataset import BehaviourDataset as M6RecDataset

__all__ = ["M6RecDataset"]
