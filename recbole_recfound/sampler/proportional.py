"""Proportional sampling."""

import numpy as np

from recbole_recfound.sampler.scheduler import SCHEDULERS, Scheduler


@SCHEDULERS.register("proportional")
class Proportional(Scheduler):
    """Sample in proportion to the sizes of the tasks: every example is seen equally often."""

    def shares(self) -> np.ndarray:
        """Return the sampling shares [tasks]."""
        return self.within_groups(self.sizes)
