"""RecBole's `Config` with strict validation of keys, values and device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recbole.config.configurator import Config as RecBoleConfig
from recbole.evaluator.base_metric import LossMetric
from recbole.evaluator.register import metrics_dict
from recbole.utils import InputType, ModelType

from recbole_recfound.atomic.check import FileFormat, check_columns, check_numbers, columns_of
from recbole_recfound.atomic.find import NO_DATASET, find_dataset
from recbole_recfound.compat.unpickling import OPENED, trust_checkpoint
from recbole_recfound.config.history import history_name
from recbole_recfound.config.known import is_recbole_model
from recbole_recfound.config.models import LABELS_OR_NEGATIVES, WITHOUT_NEGATIVES, get_model, model_file, nearest
from recbole_recfound.config.property_files import Loader, read_settings
from recbole_recfound.config.schema import NO_NEGATIVES
from recbole_recfound.config.settings import merged, settings_of
from recbole_recfound.errors import ConfigError, RecFoundError
from recbole_recfound.runtime.device import choose_device, is_gpu
from recbole_recfound.runtime.locations import properties_dir

FILTERS = ("rm_dup_inter", "val_interval", "user_inter_num_interval", "item_inter_num_interval")
"""Settings that leave rows out."""
ALL = ("[0,inf)", "[0,inf]")
"""Values of them that leave none out."""
OF_CLICKS = (ModelType.CONTEXT, ModelType.DECISIONTREE)
"""Types of models that learn labels of rows and nothing else."""


class Config(RecBoleConfig):
    """The settings of a run.

    From weakest to strongest: RecBole's and our `overall.yaml`, the model's file, the data set's file, RecBole's
    defaults for the type of model (context-aware, sequential, ...), the user's files in their order, `config_dict`. All
    settings of the user are checked before data or model are loaded. `sys.argv` is never read: the command line passes
    `config_dict`.

    Args:
        model: name of one of our models or of RecBole's, or a model class; None: `model` in the files or the dict.
        dataset: name of the data set; None: `dataset` in the files or the dict.
        config_file_list: YAML files.
        config_dict: settings as Python objects; text stays text.
        is_base: the model is a base that another model fine-tunes: keys that it does not read are accepted.

    Attributes:
        notes: lines for the user, see `settings.Settings`.
        repeats: whether the user has set `repeatable`: a user's old items are candidates like all others.

    Raises:
        ConfigError: an unknown key, a value that does not fit, an unknown model, a GPU that is demanded and absent.
        DataError: the data set or a column that the run needs is missing.
    """

    reads_plugin_files = True

    def __init__(
        self,
        model: str | type | None = None,
        dataset: str | None = None,
        config_file_list: Iterable[str | Path] | None = None,
        config_dict: Mapping[str, Any] | None = None,
        is_base: bool = False,
    ) -> None:
        given = settings_of(config_file_list, config_dict, model, strict=not is_base)
        self.notes = given.notes
        try:
            super().__init__(model, dataset, None, given)
        except RecFoundError:
            raise
        except (ValueError, TypeError, KeyError, NotImplementedError, RuntimeError) as error:
            raise ConfigError(" ".join(str(error.args[0] if error.args else error).split())) from error
        if self["trust_checkpoint"]:
            for key in OPENED:
                if isinstance(path := self[key], str) and path:
                    trust_checkpoint(path)

    def _build_yaml_loader(self) -> type:
        return Loader

    def _load_variable_config_dict(self, config_dict: Mapping[str, Any] | None) -> dict[str, Any]:
        return dict(config_dict or {})

    def _load_cmd_line(self) -> dict[str, Any]:
        return {}

    def _get_model_and_dataset(self, model: str | type | None, dataset: str | None) -> tuple[str, type, str]:
        model = model or self.external_config_dict.get("model")
        dataset = dataset or self.external_config_dict.get("dataset")
        for name, value in (("model", model), ("dataset", dataset)):
            if value is None:
                raise ConfigError(f"{name} is not given: --{name}=NAME, or `{name}: NAME` in a config file")
        name, cls = (model, get_model(model)) if isinstance(model, str) else (model.__name__, model)
        # One name may stand for models of several types, each with RecBole's defaults for its type.
        chosen = cls.of_settings(self.external_config_dict) if hasattr(cls, "of_settings") else cls
        return name, chosen, dataset

    def _update_internal_config_dict(self, file: str | Path) -> dict[str, Any]:
        values = super()._update_internal_config_dict(str(file)) or {}
        if Path(file).parent.name == "quick_start_config":
            self._kind_defaults.update(values)
        return values

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        self._kind_defaults: dict[str, Any] = {}
        super()._load_internal_config_dict(model, model_class, dataset)
        ours = properties_dir()
        for path in (ours / "overall.yaml", model_file(model), ours / "dataset" / f"{dataset}.yaml"):
            if path is not None and path.is_file():
                values = {setting.key: setting.value for setting in read_settings(path)}
                self.internal_config_dict.update(merged(self.internal_config_dict, values))
        self.internal_config_dict.update(self._kind_defaults)
        if hasattr(model_class, "own_settings"):
            self.internal_config_dict.update(model_class.own_settings(self.external_config_dict))

    def _get_final_config_dict(self) -> dict[str, Any]:
        return merged(self.internal_config_dict, self.external_config_dict)

    def _set_default_parameters(self) -> None:
        settings = self.final_config_dict
        if settings["log_wandb"] and find_spec("wandb") is None:
            raise ConfigError("log_wandb: pip install wandb")
        self._drop_unusable_negatives()
        problems = metric_problems(settings["metrics"], settings["topk"], settings["valid_metric"])
        problems = problems or _mode_problems(settings["metrics"], settings["eval_args"])
        try:
            choose_device(self["use_gpu"], self["gpu_id"])
        except ConfigError as error:
            problems += error.problems
        problems += self._filters_of_parts()
        if problems:
            raise ConfigError(problems)
        base = settings["data_path"]
        super()._set_default_parameters()
        if self.dataset == NO_DATASET:
            if not settings["task_files"]:
                raise ConfigError("dataset: none has no atomic files: name JSON-lines files with task_files")
            return
        explicit = "data_path" in self.external_config_dict
        folder = find_dataset(self.dataset, base, explicit, settings["benchmark_filename"])
        if getattr(self.model_class, "reads_as_base", False):
            settings["data_path"] = str(folder)
            return
        self._settle_columns(folder)
        self._read_knowledge()
        form = FileFormat.of(self)
        if problems := [*self._left_out_columns(form), *self._missing_negatives(folder)]:
            raise ConfigError(problems)
        check_numbers(folder, self.dataset, form, self._numeric_columns())
        check_columns(folder, self.dataset, form)
        settings["data_path"] = str(folder)

    def _filters_of_parts(self) -> list[str]:
        """Return a line for each filter that RecBole does not apply, because the data set comes split."""
        if not self.final_config_dict["benchmark_filename"]:
            return []
        typed = {key: self.external_config_dict.get(key) for key in FILTERS}
        return [
            f"{key}: got {value}, but RecBole reads a data set that comes split (benchmark_filename) without filters; "
            "filter its files"
            for key, value in typed.items()
            if value is not None and str(value).replace(" ", "") not in ALL
        ]

    def _settle_columns(self, folder: Path) -> None:
        """Read, unless columns are configured, the ids, the time where rows are ordered by it, ratings and labels."""
        own = properties_dir() / "dataset" / f"{self.dataset}.yaml"
        configured = "load_col" in self.external_config_dict or (
            own.is_file() and any(setting.key == "load_col" for setting in read_settings(own))
        )
        settings = self.final_config_dict
        parts = settings["benchmark_filename"]
        if configured:
            return
        if settings["unload_col"]:
            settings["load_col"] = None  # RecBole takes one of the two
            return
        present = self._columns(folder)
        columns = [settings["USER_ID_FIELD"], settings["ITEM_ID_FIELD"]]
        if settings["eval_args"]["order"] == "TO" and (not parts or settings["TIME_FIELD"] in present):
            columns.append(settings["TIME_FIELD"])
        wanted = (settings["TIME_FIELD"], settings["RATING_FIELD"], settings["LABEL_FIELD"], *self._listed_fields())
        columns += [name for name in wanted if name in present and name not in columns]
        settings["load_col"] = {**settings["load_col"], "inter": columns}

    def _columns(self, folder: Path) -> list[str]:
        """Return the columns of the first file of interactions."""
        parts = self["benchmark_filename"]
        file = folder / (f"{self.dataset}.{parts[0]}.inter" if parts else f"{self.dataset}.inter")
        return columns_of(file, self["field_separator"], self["encoding"])

    def _missing_negatives(self, folder: Path) -> list[str]:
        """Return a line if one of RecBole's models gets no negatives and cannot learn without."""
        if not is_recbole_model(self.model) or self["train_neg_sample_args"] is not None:
            return []
        loaded = (self["load_col"] or {}).get("inter", "*")
        columns = self._columns(folder) if loaded == "*" else loaded
        labelled = bool(self["threshold"]) or self["LABEL_FIELD"] in columns
        # SINE is declared to learn from pairs, and does so with loss_type BPR alone.
        pairs = self["MODEL_INPUT_TYPE"] == InputType.PAIRWISE and self["loss_type"] != "CE"
        pairs = pairs and self.model not in WITHOUT_NEGATIVES
        reads_labels = self.model not in LABELS_OR_NEGATIVES or labelled
        if not pairs and self["MODEL_TYPE"] != ModelType.KNOWLEDGE and reads_labels:
            return []
        return [
            f"train_neg_sample_args: got nothing, but {self.model} learns from drawn negatives, expected such as "
            "{distribution: uniform, sample_num: 1}"
        ]

    def _left_out_columns(self, form: FileFormat) -> list[str]:
        """Return a line for each column that is needed and not read, or dropped before it is used."""
        settings = self.final_config_dict
        ids = {settings["USER_ID_FIELD"]: "USER_ID_FIELD", settings["ITEM_ID_FIELD"]: "ITEM_ID_FIELD"}
        unloaded, unused = settings["unload_col"] or {}, settings["unused_col"] or {}
        unread = [
            suffix for suffix in unused if settings["load_col"] is not None and suffix not in settings["load_col"]
        ]
        needed = [("unload_col", unloaded.get("inter", []), form.required)]
        needed += [("unused_col", columns, ids) for suffix, columns in unused.items() if suffix not in unread]
        problems = [
            f"{key}: got {field}, which is needed ({reasons[field]}); leave it out of {key}"
            for key, columns, reasons in needed
            for field in columns
            if field in reasons
        ]
        problems += [
            f"unused_col: got columns of {suffix}, of which load_col reads none; leave them out of unused_col"
            for suffix in unread
        ]
        listed = f"{settings['ITEM_ID_FIELD']}{self['LIST_SUFFIX'] or '_list'}"
        loaded = (settings["load_col"] or {}).get("inter", "*")
        if self.model_class.type == ModelType.SEQUENTIAL and form.parts and loaded != "*" and listed not in loaded:
            problems.append(
                f"benchmark_filename: {self.model} needs the history of each row in a column {listed} of files that "
                "come split; add it to the files and to load_col, or leave the model out"
            )
        return problems

    def _numeric_columns(self) -> dict[str, str]:
        """Return the columns that this run reads as numbers, with the setting that says so.

        RecBole accepts a rating or label of any type where nothing reads it.
        """
        intervals = [field for field, values in (self["val_interval"] or {}).items() if isinstance(values, str)]
        keys = ("threshold", "discretization", "numerical_features")
        listed = {**{key: self[key] or () for key in keys}, "val_interval": intervals}
        scored = self["MODEL_TYPE"] in OF_CLICKS or "labeled" in self["eval_args"]["mode"].values()
        if scored and not self["threshold"]:  # which makes labels of its own
            listed["LABEL_FIELD"] = [self["LABEL_FIELD"]]
        if getattr(self.model_class, "reads_ratings", _weighs_by_rating)(self):
            listed["RATING_FIELD"] = [self["RATING_FIELD"]]
        unloaded = {field for columns in (self["unload_col"] or {}).values() for field in columns}
        keys_of = {field: key for key, fields in reversed(listed.items()) for field in fields}
        return {field: key for field, key in keys_of.items() if field not in unloaded}

    def _read_knowledge(self) -> None:
        """Read triples and links where the model needs them and no columns of these files are configured."""
        settings = self.final_config_dict
        if self.model_class.type != ModelType.KNOWLEDGE or not isinstance(settings["load_col"], dict):
            return
        triples = [settings[f"{part}_ID_FIELD"] for part in ("HEAD_ENTITY", "RELATION", "TAIL_ENTITY")]
        link = [settings["ITEM_ID_FIELD"], settings["ENTITY_ID_FIELD"]]
        settings["load_col"] = {"kg": triples, "link": link, **settings["load_col"]}

    def _listed_fields(self) -> list[str]:
        """Return the columns of histories in a data set that comes split as sequences."""
        if not self.final_config_dict["benchmark_filename"]:
            return []
        return [f"{self['ITEM_ID_FIELD']}{self['LIST_SUFFIX'] or '_list'}", *(self["alias_of_item_id"] or [])]

    def _drop_unusable_negatives(self) -> None:
        """Drop RecBole's default negatives where RecBole rejects them (sequential, softmax) or nothing reads them.

        Its own words for none, `distribution: none`, become the nothing that it reads.
        """
        given = self["train_neg_sample_args"]
        if isinstance(given, dict) and given.get("distribution") == NO_NEGATIVES:
            self.final_config_dict["train_neg_sample_args"] = None
        sequential = self.model_class.type == ModelType.SEQUENTIAL
        softmax = (
            getattr(self.model_class, "input_type", None) in (None, InputType.POINTWISE) and self["loss_type"] == "CE"
        )
        closed_form = self.model_class.type == ModelType.TRADITIONAL
        if (closed_form or (sequential and softmax)) and "train_neg_sample_args" not in self.external_config_dict:
            self.final_config_dict["train_neg_sample_args"] = None

    def _init_device(self) -> None:
        device = choose_device(self["use_gpu"], self["gpu_id"])
        self.final_config_dict.update(device=device, use_gpu=is_gpu(device), single_spec=True, local_rank=0)
        self._settle_history()
        self._settle_repeats()

    def _settle_history(self) -> None:
        """Resolve `auto`, so that a model trained on a GPU is the same model elsewhere."""
        if self["history"] is not None:
            self.final_config_dict["history"] = history_name(self)

    def _settle_repeats(self) -> None:
        """Rank old and new items alike if the user says that items are consumed repeatedly.

        RecBole itself sets `repeatable` for sequential models, which says nothing about the data.
        """
        given = self.external_config_dict
        self.repeats = bool(given.get("repeatable"))
        if self.repeats and given.get("mask_history"):
            raise ConfigError("repeatable: True ranks a user's old items too, and mask_history: True leaves them out")
        if self.repeats:
            self.final_config_dict["mask_history"] = False


def _weighs_by_rating(settings: Mapping[str, Any]) -> bool:
    """Return whether a model of RecBole is set to read the values of ratings (DMF)."""
    return bool(settings["inter_matrix_type"] == "rating")


def _mode_problems(metrics: list[str] | str, eval_args: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with metrics of labelled rows where all items are ranked, as they are without a mode."""
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    mode = eval_args.get("mode") or "full"
    modes = set(mode.values()) if isinstance(mode, dict) else {mode}
    if "full" not in modes or not any(issubclass(metrics_dict[name.lower()], LossMetric) for name in names):
        return []
    got = "no mode, which means full" if "mode" not in eval_args else f"mode: {mode}"
    return [
        f"eval_args: got {got}, which ranks all items, with metrics: {', '.join(names)}, which score labelled rows; "
        "expected mode: labeled, or metrics of rankings such as NDCG"
    ]


def metric_problems(metrics: list[str] | str, topk: list[int] | int, valid_metric: str) -> list[str]:
    """Return what is wrong with the metrics of a run.

    Args:
        metrics: names of metrics, or one name.
        topk: lengths of ranked lists, or one.
        valid_metric: metric that chooses checkpoints, such as `NDCG@10`.
    """
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    unknown = [name for name in names if name.lower() not in metrics_dict]
    if unknown:
        known = ", ".join(sorted(metrics_dict))
        return [f"metrics: got {', '.join(unknown)}, expected names among {known}{nearest(unknown[0], metrics_dict)}"]
    lower = {name.lower() for name in names}
    if "gauc" in lower and any(issubclass(metrics_dict[name], LossMetric) for name in lower):
        others = ", ".join(name for name in names if name.lower() != "gauc")
        return [f"metrics: got {', '.join(names)}, expected {others}: the test of labelled rows has GAUC as well"]
    name, at, k = valid_metric.lower().partition("@")
    where = f"valid_metric: got {valid_metric}, expected"
    if name not in [known.lower() for known in names]:
        return [f"{where} one of metrics: {', '.join(names)}"]
    if bool(at) == (name == "gauc" or issubclass(metrics_dict[name], LossMetric)):
        return [f"{where} the length of its list where a list is ranked, as in NDCG@10, and only there"]
    lengths = [topk] if isinstance(topk, int) else list(topk)
    if at and k not in map(str, lengths):
        return [f"{where} a length among topk: {', '.join(map(str, lengths))}"]
    return []
