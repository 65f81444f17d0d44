"""A task without training: a row for each score."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.trainer import Trainer
from recbole.utils import init_seed

from recbole_recfound.config.configurator import Config
from recbole_recfound.evaluation.by_user import kept_ranking
from recbole_recfound.evaluation.results import Row
from recbole_recfound.model.reading.zeroshot import ZeroShotModel
from recbole_recfound.system.m6rec.work import Work
from recbole_recfound.system.run import Job


class ZeroShotTask(Work):
    """Score the test with the language model as it is; see `Work` for the arguments."""

    model: ZeroShotModel

    @classmethod
    def validated_by(cls, config: Config) -> None:
        """Return None: nothing is trained."""

    def jobs(self) -> Iterator[Job]:
        """Yield a row for each score; all of them read the same likelihoods, which are computed for the first."""
        for score in self.model.options.scores:
            yield Job(f"{self.name} {score}", partial(self._score, score), alone=True)
        self.run.plan.reserved.pop(self.name, None)

    @torch.no_grad()
    def reserve(self, share: float) -> None:
        """Keep the time that all test users take, by that of one of them; say so where they take longer than there is.

        The sample of users is that of every other row of the table, so it is not made smaller.

        Args:
            share: see `Work.reserve`.
        """
        plan, rows = self.run.plan, self.splits.test_set
        names = [f"{self.name} {score}" for score in self.model.options.scores]
        if not plan.limited or all(map(self.run.folder.has_row, names)):
            return
        self.model.eval()
        users, ranks_all = (
            len(rows.inter_feat[rows.uid_field].unique()),
            isinstance(self.splits.test_data, FullSortEvalDataLoader),
        )
        predict = self.model.full_sort_predict if ranks_all else self.model.predict
        batch = next(iter(self.splits.test_data))[0]
        seconds = 0.0
        for user in batch[self.model.user_field].unique()[:2]:  # the first one pays for what is done once
            begin = time.monotonic()
            predict(batch[batch[self.model.user_field] == user].to(self.model.device))
            seconds = users * (time.monotonic() - begin)
        most = share * (plan.remaining() - plan.kept())
        plan.reserved[self.name] = min(seconds, most)
        if seconds > most:
            print(
                f"note: time_budget: {self.name} reads about {seconds / 60:.0f} minutes for {users:,} test users, "
                f"{most / 60:.0f} are left; test_users: {max(1, int(users * most / seconds)):,} would fit",
                flush=True,
            )

    def _score(self, score: str) -> Row:
        begin = time.monotonic()
        self.model.score = score
        self.model.eval()
        trainer = Trainer(self.config, self.model)
        trainer.eval_collector.data_collect(self.splits.train_data)
        init_seed(
            self.config["seed"], self.config["reproducibility"]
        )  # sampled candidates are those of every other row
        with self.run.plan.phase("test"), kept_ranking(trainer) as kept:
            found = trainer.evaluate(
                self.splits.test_data, load_best_model=False, show_progress=self.config["show_progress"]
            )
        return Row(
            model=f"{self.name} {score}",
            metrics=found,
            valid_metrics={},
            train_seconds=0.0,
            eval_seconds=time.monotonic() - begin,
            trainable_parameters=0,
            converged=True,
            by_user=self.comparable(kept),
            details={**self.other_mode(), "task": self.model.task},
        )
