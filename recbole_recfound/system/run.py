"""One run from request to table: data, clock, run folder, rows, results and report."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from recbole_recfound.baseline.recbole import check_baselines, run_baseline
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.records.files import by_part, paths_in
from recbole_recfound.data.split.protocol import Protocol, Splits
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.report.table import format_table, protocol_line
from recbole_recfound.evaluation.results import Results, Row
from recbole_recfound.runtime.budget import Budget
from recbole_recfound.runtime.run_folder import RESULTS, RunFolder, digests_of, write_text
from recbole_recfound.runtime.versions import versions
from recbole_recfound.system.base import Job, System
from recbole_recfound.system.registry import get_system
from recbole_recfound.system.request import Request

BASELINE_SHARE = 0.4
"""Part of the time budget that the baselines may take together."""


class Run:
    """The state of one run, shared by its system and its jobs.

    Args:
        system: class of the system.
        config: resolved settings.
        splits: split data set; None: tasks come from JSON-lines files alone.
        budget: clock of the run, started before the data were read.
        saved: whether weights and checkpoints stay in the run folder.

    Attributes:
        rows: computed rows by name.
    """

    def __init__(
        self, system: type[System], config: Config, splits: Splits | None, budget: Budget, saved: bool
    ) -> None:
        self.system, self.config, self.splits, self.budget, self.saved = system, config, splits, budget, saved
        # A base brings its own settings; its data are split and scored by these.
        self.data_config = splits.config if splits else config
        self.protocol = Protocol.of(self.data_config, splits)
        self.rows: dict[str, Row] = {}

    @classmethod
    @contextmanager
    def open(cls, system: type[System], config: Config, saved: bool = True) -> Iterator[Run]:
        """Start the clock, read and split the data, and check the baselines.

        Args:
            system: class of the system.
            config: resolved settings.
            saved: whether weights and checkpoints stay in the run folder.

        Raises:
            ConfigError: settings that do not fit the data.
            DataError: missing or malformed data.
        """
        budget = Budget(config["time_budget"])
        splits = system.open_data(config)
        run = cls(system, config, splits, budget, saved)
        run.check_baselines()
        yield run

    def check_baselines(self) -> None:
        """Refuse baselines that cannot be compared with the system.

        Raises:
            ConfigError: an unknown model, or one that is evaluated in another way.
            DataError: RecBole holds out other rows for it.
        """
        names = self.config["baselines"]
        if self.splits:
            check_baselines(names, self.config, self.splits)
        elif names:
            raise ConfigError(f"baselines: got {', '.join(names)}, but dataset: none has no interactions to train them")

    @cached_property
    def folder(self) -> RunFolder:
        """The run folder, created (or found, to be resumed) when it is first needed."""
        config = self.config
        folder = RunFolder.open(
            config["model"], config["dataset"], resolved_settings(config), config["output_dir"], config["resume"]
        )
        folder.log_to(verbose=config["show_progress"])
        print(f"{protocol_line(self.protocol.to_json())}\nrun folder: {folder.path}\n{self._plan()}", flush=True)
        return folder

    def baseline_jobs(self) -> Iterator[Job]:
        """Yield one job for each of RecBole's models in the setting `baselines`."""
        for name in self.config["baselines"]:

            def compute(name: str = name) -> Row:
                deadline = self.budget.deadline(BASELINE_SHARE)
                assert self.splits is not None
                return run_baseline(name, self.config, self.splits, self.folder.path / "baselines", deadline)

            yield Job(name, compute)

    def row(self, job: Job) -> Row:
        """Compute a row, or take it from the run folder where an earlier part of this run has written it."""

        def compute() -> dict[str, Any]:
            print(f"{job.name} ...", flush=True)
            return job.compute().to_json()

        values = self.folder.row(job.name, compute) if job.resumable else job.compute().to_json()
        self.rows[job.name] = Row.from_json(values)
        return self.rows[job.name]

    def finish(self, job: System, rows: Sequence[Row]) -> dict[str, Any]:
        """Write `results.json` and `report.html`, print the table, and return RecBole's four results.

        Args:
            job: the system, after its rows were computed.
            rows: the table.

        Returns:
            `best_valid_score`, `valid_score_bigger`, `best_valid_result`, `test_result`, `comparison` and `run_dir`.
        """
        config, chosen, folder = self.config, job.choose(rows), self.folder.path
        details = job.details()
        facts = {**details.pop("run", {}), "total_seconds": self.budget.elapsed(), "peak_memory_gib": peak_memory_gib()}
        results = Results(
            self.system.name,
            config["model"],
            config["dataset"],
            self.protocol.to_json(),
            list(rows),
            config["seed"],
            versions(),
            facts,
            details,
        ).to_json()
        write_text(folder / "report.html", job.report(results))
        if not self.saved:
            job.discard()
        # Last, since its presence says that the run is finished.
        write_text(folder / RESULTS, json.dumps(results, indent=1, ensure_ascii=False))
        lines = [protocol_line(results["protocol"]), format_table(results["rows"]), *job.lines(results)]
        lines.append(f"{facts['total_seconds']:.0f} s in all, peak memory {facts['peak_memory_gib']:.1f} GiB")
        lines.append(f"report: {folder / 'report.html'}")
        print("\n" + "\n".join(lines), flush=True)
        metric = self.protocol.valid_metric.lower()
        return {
            "best_valid_score": chosen.valid_metrics.get(metric),
            "valid_score_bigger": self.data_config["valid_metric_bigger"],
            "best_valid_result": chosen.valid_metrics,
            "test_result": chosen.metrics,
            "comparison": results["rows"],
            "run_dir": str(folder),
        }

    def _plan(self) -> str:
        seconds = self.config["time_budget"]
        if not seconds:
            steps = self.config["max_steps"]
            limit = "" if steps is None else f"; at most {steps} steps"
            return f"time budget: none (time_budget: 0){limit}"
        return (
            f"time budget: {seconds} s for the whole run; baselines may take {BASELINE_SHARE * seconds:.0f} s, "
            f"the rest is training, merging and testing"
        )


def execute(request: Request, saved: bool = True) -> dict[str, Any]:
    """Run a system from request to table.

    Args:
        request: model, data set and settings.
        saved: whether weights and checkpoints stay in the run folder.

    Returns:
        See `Run.finish`.
    """
    system = get_system(request.model)
    config = system.configure(request)
    system.check(config)
    with Run.open(system, config, saved) as run:
        job = system(run)
        rows = [run.row(each) for each in chain(job.baselines(), job.rows())]
        return run.finish(job, rows)


def resolved_settings(config: Config) -> dict[str, Any]:
    """Return every setting of a run that can be written to YAML, with digests of the data files.

    Other data under the same name make another run; paths are absolute, so that a run can be loaded from anywhere.
    """
    plain = str | int | float | bool | list | dict | None
    settings = {key: value for key, value in config.final_config_dict.items() if isinstance(value, plain)}
    files = {file.name: file for file in sorted(Path(config["data_path"]).glob(f"{config['dataset']}.*"))}
    parts: Mapping[str, list[str]] = by_part(config["task_files"] or [])
    records = {part: [str(Path(path).resolve()) for path in paths] for part, paths in parts.items()}
    files |= {path: Path(path) for path in paths_in(records)}
    paths = {
        "data_path": str(Path(config["data_path"]).resolve()),
        "task_files": records if any(records.values()) else [],
    }
    return {**settings, **paths, "data_files": digests_of(files)}


def peak_memory_gib() -> float:
    """Return the largest resident memory of this process so far, in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)  # bytes on macOS, KiB elsewhere
