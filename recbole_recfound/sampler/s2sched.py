"""S2Sched, the scheduler of RecFound."""

from __future__ import annotations

import numpy as np

from recbole_recfound.sampler.convergence import softmax
from recbole_recfound.sampler.scheduler import SCHEDULERS
from recbole_recfound.sampler.tracking import ConvergenceScheduler


@SCHEDULERS.register("s2sched")
class S2Sched(ConvergenceScheduler):
    """Step-wise convergence-aware sampling (RecFound S2Sched).

    Within each group, tasks that converge slowly are sampled more, tasks that start to diverge less, larger tasks more;
    no task falls below a fifth of an equal share. During warm-up sampling is proportional to size.

    Example:
        >>> scheduler = S2Sched({"U2I": 900, "I2I": 100, "SR": 500}, {"U2I": "emb", "I2I": "emb", "SR": "gen"})
        >>> scheduler.update({"U2I": 3.1, "I2I": 2.8, "SR": 1.9})  # untrained
        >>> scheduler.allocate({"emb": 10, "gen": 4})
        {'U2I': 9, 'I2I': 1, 'SR': 4}
    """

    def shares(self) -> np.ndarray:
        """Return the sampling shares [tasks]."""
        if not self.warm:
            return self.within_groups(self.sizes)
        shares = np.empty(len(self.tasks))
        for name, members in self.watched.items():
            count = len(members)
            weights = softmax(count * self.convergence[name].mixed_scores())
            weights *= self.sizes[members] / self.sizes[members].mean()
            weights /= weights.sum()
            floor = 1 / (5 * count)
            if (weights < floor).any():
                weights = weights * (1 - count * floor) + floor
            shares[members] = weights
        return shares
