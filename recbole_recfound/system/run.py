"""The state of one run: settings, data, clock, run folder and computed rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from recbole_recfound.baseline.recbole import check_baseline_rows, has_training, run_baseline
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import Protocol, Splits
from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.evaluation.report.table import protocol_line
from recbole_recfound.evaluation.results import Row
from recbole_recfound.runtime.exchange import broadcast, on_main
from recbole_recfound.runtime.file_digests import file_digest
from recbole_recfound.runtime.finished import check_run
from recbole_recfound.runtime.run_folder import RunFolder
from recbole_recfound.runtime.time_plan import TimePlan
from recbole_recfound.system.inputs import Inputs, absolute_paths

BASELINE_SHARE = 0.25
"""Part of the time budget that the baselines may take together; none starts after it."""


Watch = Callable[[int, float], None]


@dataclass(frozen=True)
class Job:
    """A row to be computed.

    Attributes:
        name: of the row.
        compute: returns the row.
        resumable: whether the finished row is written to the run folder, so that a resumed run takes it from there.
        alone: whether the main process computes it while others wait; False: all take part.
    """

    name: str
    compute: Callable[[], Row]
    resumable: bool = True
    alone: bool = False


class Run:
    """The state of one run, shared by its system and its jobs.

    Args:
        config: resolved settings.
        splits: split data set; None: tasks come from JSON-lines files alone.
        plan: clock of the run, started before the data were read.
        saved: whether weights and checkpoints stay in the run folder.
        watch: called with step (or epoch) and score after every validation of the system's own training, or None.

    Attributes:
        rows: computed rows by name.
        not_run: baselines whose turn came when their part of the time budget was spent.
    """

    def __init__(
        self,
        config: Config,
        splits: Splits | None,
        plan: TimePlan,
        saved: bool = True,
        watch: Watch | None = None,
    ) -> None:
        self.config, self.splits, self.plan, self.saved, self.watch = config, splits, plan, saved, watch
        # A base brings its own settings; its data are split and scored by these.
        self.data_config = splits.config if splits else config
        self.protocol = Protocol.of(self.data_config, splits)
        self.rows: dict[str, Row] = {}
        self.not_run: list[str] = []
        if config["baselines"] and plan.limited:
            plan.most["baselines"] = BASELINE_SHARE * plan.seconds

    def check_baselines(self) -> None:
        """Refuse baselines that cannot be compared with the system on these data; `execute` has checked their settings.

        Raises:
            ConfigError: there are no interactions to train them.
            DataError: RecBole holds out other rows for it.
        """
        names = self.config["baselines"]
        if self.splits:
            check_baseline_rows(names, self.splits)
        elif names:
            raise ConfigError(f"baselines: got {', '.join(names)}, but dataset: none has no interactions to train them")

    @cached_property
    def folder(self) -> RunFolder:
        """The run folder, created (or found, to be resumed) when it is first needed."""
        config = self.config
        names = config["model"], config["dataset"]
        opened: list[RunFolder] = []

        def open_folder() -> Path:
            self._inputs = inputs_of(config)
            settings = resolved_settings(config, self._inputs)
            opened.append(RunFolder.open(*names, settings, config["output_dir"], config["resume"]))
            return opened[0].path

        path = on_main(open_folder)
        folder = opened[0] if opened else RunFolder.joined(path)
        if opened:
            folder.log_to(verbose=config["show_progress"])
        self.plan.resume(broadcast(folder.time_before() if opened else {}))
        if "checkpoint_dir" not in config.external_config_dict:
            self.data_config["checkpoint_dir"] = config["checkpoint_dir"] = str(folder.trainer_state)
        lines = protocol_line(self.protocol.to_json()), f"run folder: {folder.path}", self.plan.described()
        print(*lines, sep="\n", flush=True)
        return folder

    def finished(self) -> dict[str, Any] | None:
        """Return the results of a finished run of the same settings in the same folder, and its path as `run_dir`."""
        return on_main(self._finished)

    def _finished(self) -> dict[str, Any] | None:
        config = self.config
        names = config["model"], config["dataset"]
        for path in RunFolder.finished(*names, resolved_settings(config), config["output_dir"]):
            try:
                return {**check_run(path), "run_dir": str(path)}
            except (ConfigError, DataError) as error:
                print(f"note: not this finished run: {error}", flush=True)
        return None

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let other processes write the run folder; what an interrupted run took counts when it is resumed."""
        if folder := vars(self).get("folder"):
            if error is not None:
                with suppress(OSError):  # the error itself is the news
                    folder.keep_time(self.plan.spent())
            folder.close()

    def how_to_resume(self) -> str:
        """Return what continues this run after an interruption; empty before it has a folder."""
        folder = vars(self).get("folder")
        return f"run folder {folder.path}: continue with --resume={folder.path}" if folder else ""

    def baseline_jobs(self) -> Iterator[Job]:
        """Yield one job for each of RecBole's models in the setting `baselines`, while their part of the time lasts."""
        if not self.config["baselines"]:
            return
        folder = self.folder  # opened by all processes together; the time of an earlier part of the run counts then
        deadline = self.plan.deadline(BASELINE_SHARE)
        for name in self.config["baselines"]:
            late = deadline is not None and self.plan.clock() > deadline
            begun = folder.has_row(name) or has_training(folder.path / "baselines", name)
            if broadcast(late and not begun):
                self.not_run.append(name)
                continue

            def compute(name: str = name) -> Row:
                assert self.splits is not None
                root = self.folder.path
                # It reads the data again.
                with self._inputs.unchanged("run"), self.plan.phase("baselines"):
                    row = run_baseline(name, self.config, self.splits, root / "baselines", deadline)
                kept = [file for file in (root / "baselines" / name).rglob("*") if file.is_file()]
                digests = {file.relative_to(root).as_posix(): file_digest(file) for file in sorted(kept)}
                return replace(row, details={**row.details, "files": digests})

            yield Job(name, compute, alone=True)

    def row(self, job: Job) -> Row:
        """Compute a row, or take it from the run folder where an earlier part of this run has written it."""

        def compute() -> dict[str, Any]:
            print(f"{job.name} ...", flush=True)
            return job.compute().to_json()

        folder = self.folder

        def load_or_compute() -> dict[str, Any]:
            return folder.row(job.name, compute) if job.resumable else job.compute().to_json()

        values = on_main(load_or_compute) if job.alone else broadcast(load_or_compute())
        self.rows[job.name] = Row.from_json(values)
        with suppress(OSError):  # the row itself is on disk
            folder.keep_time(self.plan.spent())
        return self.rows[job.name]


def resolved_settings(config: Config, inputs: Inputs | None = None) -> dict[str, Any]:
    """Return every setting of a run that can be written to YAML, with digests of the files that it reads.

    Others under the same name make another run; paths are absolute, so that a run can be loaded from anywhere.

    Args:
        config: settings of the run.
        inputs: the files, as they were when it began; None: as they are now.
    """
    plain = str | int | float | bool | list | dict | None
    settings = {key: value for key, value in config.final_config_dict.items() if isinstance(value, plain)}
    paths = {"data_path": str(Path(config["data_path"]).resolve()), **absolute_paths(config.final_config_dict)}
    if "checkpoint_dir" not in config.external_config_dict:
        settings.pop("checkpoint_dir", None)  # the run's own folder
    settings.pop("trust_checkpoint", None)  # trust is typed for one run, and no file passes it on
    return {**settings, **paths, "data_files": dict((inputs or inputs_of(config)).digests)}


def inputs_of(config: Config) -> Inputs:
    """Return the files that a run reads, as they are now.

    Args:
        config: settings of the run.
    """
    return Inputs.of(config["model"], config["dataset"], Path(config["data_path"]), config.final_config_dict)
