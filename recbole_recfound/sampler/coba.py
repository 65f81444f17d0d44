"""CoBa, a scheduler that weighs losses."""

from __future__ import annotations

import numpy as np

from recbole_recfound.sampler.scheduler import SCHEDULERS
from recbole_recfound.sampler.tracking import ConvergenceScheduler


@SCHEDULERS.register("coba")
class CoBa(ConvergenceScheduler):
    """Weigh the losses of all tasks as one group (CoBa, arXiv 2410.06741); sample in proportion to size."""

    def loss_weights(self) -> dict[str, float]:
        """Return `K * (DF * RCS + (1 - DF) * ACS)`: 1 on average, and 1 for all during warm-up."""
        if not self.warm:
            return super().loss_weights()
        scores = len(self.tasks) * self.convergence["all"].mixed_scores()
        return dict(zip(self.tasks, scores.tolist(), strict=True))

    def watched_groups(self) -> dict[str, list[int]]:
        """Return all tasks as one group."""
        return {"all": list(range(len(self.tasks)))}

    def shares(self) -> np.ndarray:
        """Return the sampling shares [tasks]."""
        return self.within_groups(self.sizes)
