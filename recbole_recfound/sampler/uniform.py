"""Uniform sampling."""

import numpy as np

from recbole_recfound.sampler.scheduler import SCHEDULERS, Scheduler


@SCHEDULERS.register("uniform")
class Uniform(Scheduler):
    """Sample all tasks of a group equally often, independent of their sizes."""

    def shares(self) -> np.ndarray:
        """Return the sampling shares [tasks]."""
        return self.within_groups(np.ones(len(self.tasks)))
