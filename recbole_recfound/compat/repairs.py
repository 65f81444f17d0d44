"""Defects of RecBole 1.2.1 and their repairs, one by one.

The right-hand sides work on the old versions of the libraries as well.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial, wraps
from operator import attrgetter
from types import ModuleType
from typing import Any, NamedTuple

from recbole_recfound.compat import masked_sequences, outputs, unpickling
from recbole_recfound.compat.importing import Repair
from recbole_recfound.compat.rewriting import PlaceNotFound, rewrite
from recbole_recfound.errors import ConfigError, DataError

QUICK_START = "recbole.quick_start.quick_start"
CONFIG = "recbole.config.configurator"
DATASET = "recbole.data.dataset.dataset"
MODELS = "recbole.model."
SINE = "recbole.model.sequential_recommender.sine"
CASE_STUDY = "recbole.utils.case_study"


class Place(NamedTuple):
    """One expression of RecBole and its replacement."""

    module: str
    function: str
    old: str
    new: str
    times: int = 1


# pandas 3: `frame[column]` is a copy, so filling it in place fills nothing, and silently so.
FILLING = [
    Place(
        DATASET,
        "Dataset._fill_nan",
        "feat[field].fillna(value=0, inplace=True)",
        "feat[field] = feat[field].fillna(value=0)",
    ),
    # The mean of interactions would be that of held-out rows too: `atomic.missing` fills them after the split.
    Place(
        DATASET,
        "Dataset._fill_nan",
        "feat[field].fillna(value=feat[field].mean(), inplace=True)",
        'feat[field] = feat[field] if feat_name == "inter_feat" else feat[field].fillna(value=feat[field].mean())',
    ),
]

# pandas 3: `.agg(len)` is the length of the column, no longer of each cell.
LENGTHS = [
    Place(module, function, ".agg(len)", ".map(len)", count)
    for module, function, count in [
        (DATASET, "Dataset._normalize", 1),
        (DATASET, "Dataset._discretization", 2),
        (DATASET, "Dataset._remap", 1),
        ("recbole.data.dataset.kg_dataset", "KnowledgeBasedDataset._reset_ent_remapID", 1),
        ("recbole.data.dataset.sequential_dataset", "SequentialDataset._benchmark_presets", 1),
    ]
]

# pandas 3: `.values` cannot be written to, and torch warns about every tensor made of it.
WRITABLE = [
    Place(DATASET, "Dataset._dataframe_to_interaction", "value = data[k].values", "value = data[k].to_numpy(copy=True)")
]

# scipy 1.13: dok_matrix keeps its entries in `_dict` and lost `_update`.
SPARSE = [
    Place(
        MODELS + module,
        function,
        "A._update(data_dict)",
        '(A._update if hasattr(A, "_update") else A._dict.update)(data_dict)',
    )
    for module, function in [
        ("general_recommender.lightgcn", "LightGCN.get_norm_adj_mat"),
        ("general_recommender.ngcf", "NGCF.get_norm_adj_mat"),
        ("general_recommender.gcmc", "GCMC.get_norm_adj_mat"),
        ("general_recommender.ncl", "NCL.get_norm_adj_mat"),
        ("general_recommender.spectralcf", "SpectralCF.get_laplacian_matrix"),
        ("knowledge_aware_recommender.kgin", "KGIN.get_norm_inter_matrix"),
        ("knowledge_aware_recommender.mcclk", "MCCLK.get_norm_inter_matrix"),
    ]
]

# A pickle can run any code: all of RecBole's calls that open one go through the gate of `unpickling`, and those that
# write one tell it.
TRAINER, UTILS = "recbole.trainer.trainer", "recbole.data.utils"
LOADING = [
    *(
        Place(module, function, call, call.replace("torch.load", "unpickling.load_tensors"), count)
        for module, function, call, count in [
            (TRAINER, "Trainer.resume_checkpoint", "torch.load(resume_file, ", 1),
            (TRAINER, "Trainer.evaluate", "torch.load(checkpoint_file, ", 1),
            (QUICK_START, "load_data_and_model", "torch.load(model_file)", 1),
            (MODELS + "general_recommender.convncf", "ConvNCF.__init__", "torch.load(self.pre_model_path)", 1),
            (MODELS + "general_recommender.nais", "NAIS._load_pretrain", "torch.load(self.pretrain_path)", 1),
            (MODELS + "general_recommender.ract", "RaCT.__init__", "torch.load(self.pre_model_path)", 2),
            (MODELS + "general_recommender.neumf", "NeuMF.load_pretrain", "torch.load(self.mf_pretrain_path, ", 1),
            (MODELS + "general_recommender.neumf", "NeuMF.load_pretrain", "torch.load(self.mlp_pretrain_path, ", 1),
            (MODELS + "context_aware_recommender.kd_dagfm", "KD_DAGFM.__init__", 'torch.load(config["warm_up"])', 1),
            (MODELS + "sequential_recommender.s3rec", "S3Rec.__init__", "torch.load(self.pre_model_path)", 1),
        ]
    ),
    Place(
        MODELS + "general_recommender.ldiffrec",
        "LDiffRec.__init__",
        "np.load(emb_path, allow_pickle=True)",
        "unpickling.load_array(emb_path)",
    ),
    Place(
        UTILS,
        "create_dataset",
        "if os.path.exists(file):",
        'if unpickling.is_fresh_cache(file, config["data_path"]):',
    ),
    Place(
        UTILS,
        "load_split_dataloaders",
        "if not os.path.exists(dataloaders_save_path):",
        'if not unpickling.is_fresh_cache(dataloaders_save_path, config["data_path"]):',
    ),
]
WRITING = [
    Place(module, function, line, f"{line}; {wrote}", count)
    for module, function, line, wrote, count in [
        (
            TRAINER,
            "Trainer._save_checkpoint",
            "torch.save(state, saved_model_file, pickle_protocol=4)",
            "unpickling.wrote(saved_model_file)",
            1,
        ),
        (
            TRAINER,
            "PretrainTrainer.save_pretrained_model",
            "torch.save(state, saved_model_file)",
            "unpickling.wrote(saved_model_file)",
            1,
        ),
        (
            TRAINER,
            "DecisionTreeTrainer._save_checkpoint",
            "torch.save(state, self.saved_model_file)",
            "unpickling.wrote(self.saved_model_file)",
            1,
        ),
        (
            MODELS + "general_recommender.neumf",
            "NeuMF.dump_parameters",
            "torch.save(self, save_path)",
            "unpickling.wrote(save_path)",
            2,
        ),
        (
            DATASET,
            "Dataset.save",
            "pickle.dump(self, f)",
            'f.flush(); unpickling.wrote(file, self.config["data_path"])',
            1,
        ),
        (
            UTILS,
            "save_split_dataloaders",
            "pickle.dump(Serialization_dataloaders, f)",
            'f.flush(); unpickling.wrote(file_path, config["data_path"])',
            1,
        ),
    ]
]

# Every library: Pop counts an item once per batch, however often it stands there, and sampled negatives as well. It
# ranks by the training interactions instead.
COUNTING = [
    Place(
        MODELS + "general_recommender.pop",
        "Pop.__init__",
        "self.max_cnt = None",
        "self.max_cnt = None; "
        "counts = torch.bincount(dataset.inter_feat[self.ITEM_ID], minlength=self.n_items); "
        "self.item_cnt[:, 0] = counts.to(self.device)",
    ),
    Place(
        MODELS + "general_recommender.pop",
        "Pop.calculate_loss",
        "self.item_cnt[item, :] = self.item_cnt[item, :] + 1",
        "self.item_cnt",
    ),
]

# BERT4Rec masks items of a row's history only, so the last training item of each user is neither an input nor a target:
# the row's target belongs to its sequence. At test time the oldest item was dropped even where there was room for the
# mask (a history of one item became the mask alone), and a mask at the first position had no loss because its index
# is 0, the padding of the indices: a batch with no other mask had the loss NaN. Sequences of at most 4 items have
# room for int(0.2 * 4) = 0 masks, and training fails.
BERT4REC = MODELS + "sequential_recommender.bert4rec"
TRANSFORM = "recbole.data.transform"
LENGTH_WITH_TARGET = "(interaction[self.ITEM_SEQ_LEN] + 1).clamp(max=interaction[self.ITEM_SEQ].size(1))"
WITH_TARGETS = (
    "masked_sequences.with_targets("
    "interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN], interaction[self.ITEM_ID])"
)
MASKING = [
    Place(
        TRANSFORM,
        "MaskItemSequence.__init__",
        "int(self.mask_ratio * self.max_seq_length)",
        "max(1, int(self.mask_ratio * self.max_seq_length))",
    ),
    # A sequence of all items of a small catalogue leaves no negative to draw: that draw never ended.
    Place(
        TRANSFORM,
        "MaskItemSequence._neg_sample",
        "while item in item_set:",
        "while item in item_set and len({*item_set} - {0}) < n_items - 1:",
    ),
    Place(TRANSFORM, "MaskItemSequence.__call__", "item_seq.cpu().numpy()", f"{WITH_TARGETS}.cpu().numpy()"),
    Place(
        TRANSFORM,
        "MaskItemSequence._append_mask_last",
        "seq_instance = interaction[self.ITEM_SEQ]",
        f"seq_instance = {WITH_TARGETS}",
    ),
    Place(
        TRANSFORM,
        "MaskItemSequence._append_mask_last",
        "item_seq_len = interaction[self.ITEM_SEQ_LEN]",
        f"item_seq_len = {LENGTH_WITH_TARGET}",
    ),
    Place(
        BERT4REC,
        "BERT4Rec.reconstruct_test_data",
        "item_seq = item_seq[:, 1:]",
        "item_seq = masked_sequences.without_overflow(item_seq)",
    ),
    *(
        Place(
            BERT4REC,
            function,
            "self.gather_indexes(seq_output, item_seq_len - 1)",
            "self.gather_indexes(seq_output, item_seq_len.clamp(max=item_seq.size(1) - 1))",
        )
        for function in ("BERT4Rec.predict", "BERT4Rec.full_sort_predict")
    ),
    Place(BERT4REC, "BERT4Rec.calculate_loss", "(masked_index > 0)", "(pos_items > 0)", 2),
    Place(BERT4REC, "BERT4Rec.calculate_loss", "torch.sum(targets)", "torch.sum(targets).clamp(min=1)", 2),
]

# ItemCoverage, AveragePopularity and TailPercentage collect a number and a Counter, which have no `.cpu()`.
COLLECTING = [
    Place(
        "recbole.evaluator.collector",
        "Collector.get_data_struct",
        "self.data_struct._data_dict[key].cpu()",
        '(lambda value: value.cpu() if hasattr(value, "cpu") else value)(self.data_struct._data_dict[key])',
    )
]

# RecBole forgets what a column was before it was normalised; rules on times and numbers need it. Missing values have
# no part in ranges; a missing value in buckets of equal width has bucket 0.
RANGES = [
    Place(
        DATASET,
        "Dataset._normalize",
        "mx, mn = max(arr), min(arr)",
        "mx, mn = np.nanmax(arr), np.nanmin(arr); "
        'self.__dict__.setdefault("raw_ranges", {})[field] = (float(mn), float(mx))',
    ),
    Place(
        DATASET,
        "Dataset._discretization",
        "lower, upper = min(arr), max(arr) + 1e-9",
        "lower, upper = np.nanmin(arr), np.nanmax(arr) + 1e-9",
    ),
    Place(
        DATASET,
        "Dataset._discretization",
        "return arr, int(max(arr) + 1)",
        "arr = np.nan_to_num(arr); return arr, int(arr.max() + 1)",
    ),
]

# hyperopt 0.2.6: the search spaces are sampled with a numpy Generator, no longer with a RandomState.
SEARCHING = [
    Place(
        "recbole.trainer.hyper_tuning",
        "exhaustive_search",
        "rng = np.random.RandomState(seed)",
        "rng = np.random.default_rng(seed)",
    )
]

# An array's `all()` is never the object False, so fields that do not exist pass this check.
ALIASES = [Place(DATASET, "Dataset._init_alias", "if isin.all() is False:", "if not isin.all():")]

# A user who has had every item is refused even where no negatives are drawn: `_full_users` refuses at the draw.
SAMPLER = "recbole.sampler.sampler"
DRAWING = [
    Place(
        SAMPLER,
        "Sampler.get_used_ids",
        "if len(used_item_set) + 1 == self.item_num:",
        "if False:",
    )
]

# Folders that a trainer makes when it is built, used or not: they are made with their first file.
OUTPUTS = [
    Place(TRAINER, "Trainer.__init__", "ensure_dir(self.checkpoint_dir)", "None"),
    Place(
        TRAINER, "Trainer.__init__", "get_tensorboard(self.logger)", 'get_tensorboard(self.logger).of(config["model"])'
    ),
    *(
        Place(
            TRAINER,
            function,
            "torch.save(state, saved_model_file",
            "outputs.make_parent(saved_model_file); torch.save(state, saved_model_file",
        )
        for function in ("Trainer._save_checkpoint", "PretrainTrainer.save_pretrained_model")
    ),
    Place(
        "recbole.utils.utils",
        "get_tensorboard",
        "writer = SummaryWriter(dir_path)",
        "writer = outputs.LazyWriter(logger, dir_path, SummaryWriter)",
    ),
]

PLACES = [
    *OUTPUTS,
    *FILLING,
    *LENGTHS,
    *WRITABLE,
    *SPARSE,
    *LOADING,
    *WRITING,
    *ALIASES,
    *DRAWING,
    *COLLECTING,
    *COUNTING,
    *MASKING,
    *RANGES,
    *SEARCHING,
]

CALLED = {"masked_sequences": masked_sequences, "outputs": outputs, "unpickling": unpickling}
"""Our modules that replacements call, by their name in RecBole's modules."""


def repairs_by_module() -> dict[str, Repair]:
    """Map module names to the repairs that follow their import."""
    places = defaultdict(list)
    for place in PLACES:
        places[place.module].append(place)
    repairs: dict[str, Repair] = {module: partial(_rewriting, of_module) for module, of_module in places.items()}
    repairs[QUICK_START] = partial(_quick_start, places[QUICK_START])
    repairs[CONFIG] = _numpy_settings
    repairs[SAMPLER] = partial(_full_users, places[SAMPLER])
    repairs[SINE] = _own_anomaly_mode
    repairs[CASE_STUDY] = _loader_that_ranks
    return repairs


def rewrite_places(module: ModuleType, places: list[Place]) -> None:
    """Replace expressions of a module's functions; a place that is not found is a warning.

    Args:
        module: of RecBole.
        places: all places of this module's functions that are replaced, several of a function together.
    """
    vars(module).update(CALLED)
    for function in {place.function: None for place in places}:
        replacements = [(place.old, place.new, place.times) for place in places if place.function == function]
        try:
            rewrite(attrgetter(function)(module), *replacements)
        except (PlaceNotFound, AttributeError, OSError) as error:
            warnings.warn(f"recbole not repaired at {module.__name__}.{function}: {error}", stacklevel=2)


@contextmanager
def _rewriting(places: list[Place], module: ModuleType) -> Iterator[None]:
    yield
    rewrite_places(module, places)


@contextmanager
def _numpy_settings(module: ModuleType) -> Iterator[None]:
    """Disable `compatibility_settings`, which reads names that numpy 2 lacks; `set_numpy_aliases` replaces it."""
    yield
    if not hasattr(module.Config, "compatibility_settings"):
        warnings.warn(
            f"recbole not repaired at {module.__name__}: Config.compatibility_settings not found", stacklevel=2
        )
    module.Config.compatibility_settings = lambda self: None


@contextmanager
def _loader_that_ranks(module: ModuleType) -> Iterator[None]:
    """Say what to ask instead where the loader of a model does not rank all items."""
    yield
    scores = module.full_sort_scores

    @wraps(scores)
    def checking(uid_series: Any, model: Any, test_data: Any, device: Any = None) -> Any:
        loaders = importlib.import_module("recbole.data.dataloader")
        if not isinstance(test_data, loaders.FullSortEvalDataLoader):
            raise ConfigError(
                f"full_sort_topk: needs a loader that ranks all items, not {type(test_data).__name__} (clicks, or "
                "sampled candidates): ask load_recfound(run_dir).recommend(user=..., k=...)"
            )
        return scores(uid_series, model, test_data, device)

    vars(module).update(full_sort_scores=checking)


@contextmanager
def _full_users(places: list[Place], module: ModuleType) -> Iterator[None]:
    """Refuse users without a possible negative when one is drawn for them, which would never end."""
    yield
    rewrite_places(module, places)
    sample = module.Sampler.sample_by_user_ids

    def refuse_full_users(self: Any, user_ids: Iterable[int]) -> None:
        if "full_users" not in vars(self):
            self.full_users = {user for user, used in enumerate(self.used_ids) if len(used) + 1 >= self.item_num}
        if self.full_users and (found := self.full_users.intersection(map(int, user_ids))):
            raise DataError(
                f"{len(found)} users have had all {self.item_num - 1} items, so no negatives can be drawn for them. "
                "Leave them out with user_inter_num_interval, or set repeatable: True"
            )

    @wraps(sample)
    def refusing(self: Any, user_ids: Any, item_ids: Any, num: int) -> Any:
        refuse_full_users(self, user_ids)
        return sample(self, user_ids, item_ids, num)

    module.Sampler.refuse_full_users = refuse_full_users
    module.Sampler.sample_by_user_ids = refusing


@contextmanager
def _own_anomaly_mode(module: ModuleType) -> Iterator[None]:
    """Restore autograd's anomaly mode after SINE's module is imported.

    That module turns anomaly detection on for the whole process, and importing any sequential model imports it:
    training takes up to twice as long, and a NaN raises in the middle of backward.
    """
    import torch  # that file imports it anyway

    enabled, checked = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    yield
    torch.autograd.set_detect_anomaly(enabled, check_nan=checked)


@contextmanager
def _quick_start(places: list[Place], module: ModuleType) -> Iterator[None]:
    with _ray_tune(), _rewriting(places, module):
        yield


def _ray_tune() -> AbstractContextManager:
    """Return a context in which `ray.tune` can be imported, with a stand-in where ray is missing or broken.

    RecBole needs ray 2.6.3 for one call, `tune.report`; that version conflicts with setuptools 82 and numpy 2.
    """
    try:
        importlib.import_module("ray.tune")
    except Exception:  # ray fails with whatever its dependencies fail with
        return _stand_in_for_ray()
    return contextmanager(lambda: iter([None]))()


@contextmanager
def _stand_in_for_ray() -> Iterator[None]:
    """Provide a `ray.tune` during RecBole's import only, so that no other package mistakes it for ray."""
    ray, tune = ModuleType("ray"), ModuleType("ray.tune")
    vars(ray)["tune"] = tune
    vars(tune)["report"] = lambda **metrics: None  # outside of a ray session, reporting goes nowhere
    before: dict[str, ModuleType] = {name: sys.modules[name] for name in ("ray", "ray.tune") if name in sys.modules}
    sys.modules.update({"ray": ray, "ray.tune": tune})
    try:
        yield
    finally:
        for name in ("ray", "ray.tune"):
            sys.modules.pop(name, None)
        sys.modules.update(before)
