"""What real configurations and data bring: it works, or one line says why not, with exit code 2."""

import pytest

from recbole_recfound.baseline.recbole import check_baselines, fit
from recbole_recfound.cli import main
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.evaluation.report.figures import bars, curves, heat_map

HEADER = ["user_id:token", "item_id:token", "timestamp:float"]
ROWS = [[f"u{user}", f"i{(user + 2 * step) % 13}", 60 * step] for user in range(12) for step in range(6)]


def _config(path, model="BPR", **settings):
    return Config(model, "shop", config_dict={"data_path": str(path), "show_progress": False, **settings})


@pytest.fixture
def shop(write_dataset):
    """A small data set without ratings."""
    return write_dataset("shop", inter=[HEADER, *ROWS])


def _parts(rows, shares=(0.6, 0.8)):
    first, second = (int(share * len(rows)) for share in shares)
    return rows[:first], rows[first:second], rows[second:]


# Works ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["BPR", "RecFound"])
@pytest.mark.parametrize("timed", [True, False])
def test_data_that_come_split(write_dataset, model, timed):
    header, rows = (HEADER, ROWS) if timed else (HEADER[:2], [row[:2] for row in ROWS])
    names = ("train", "valid", "test")
    files = {f"{name}.inter": [header, *part] for name, part in zip(names, _parts(rows), strict=True)}
    splits = build_splits(_config(write_dataset("shop", **files), model, benchmark_filename=list(names)))
    sizes = [len(part) for part in (splits.train_set, splits.valid_set, splits.test_set)]
    assert sizes == [43, 14, 15]


def test_no_times_are_needed_for_a_random_order(write_dataset):
    path = write_dataset("shop", inter=[HEADER[:2], *[row[:2] for row in ROWS]])
    args = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full"}
    for model in ("BPR", "RecFound"):
        splits = build_splits(_config(path, model, eval_args=args))
        assert len(splits.train_set) == 48 and splits.dataset.time_rank is None
    with pytest.raises(DataError, match=r"no column 'timestamp' \(TIME_FIELD, for the split by time"):
        build_splits(_config(path))


@pytest.mark.parametrize("model", ["EASE", "RecFound", "BPR"])
def test_a_user_who_has_had_every_item(write_dataset, model):
    rows = [*ROWS, *[["all", f"i{item}", 60 * item] for item in range(13)]]
    assert len(build_splits(_config(write_dataset("shop", inter=[HEADER, *rows]), model)).test_set) == 13
    rows += [["all", "i0", 9000], ["all", "i1", 9060]]
    config = _config(write_dataset("shop", inter=[HEADER, *rows]), model)
    if model == "BPR":  # draws negatives, and there are none in training
        with pytest.raises(DataError, match="1 users have had all 13 items, so no negatives can be drawn for them"):
            build_splits(config)
    else:
        assert len(build_splits(config).test_set) == 13


def test_columns_may_be_named_to_be_left_out(write_dataset):
    path = write_dataset("shop", inter=[[*HEADER, "note:token"], *[[*row, "x"] for row in ROWS]])
    splits = build_splits(_config(path, unload_col={"inter": ["note"]}))
    assert "note" not in splits.dataset.inter_feat.columns
    assert "note" in build_splits(_config(path, load_col={"inter": "*"})).dataset.inter_feat.columns


def test_other_names_of_the_columns(write_dataset):
    path = write_dataset("shop", inter=[["uid:token", "sid:token", "time:float"], *ROWS])
    names = {"USER_ID_FIELD": "uid", "ITEM_ID_FIELD": "sid", "TIME_FIELD": "time"}
    assert len(build_splits(_config(path, **names)).train_set) == 48


def test_items_without_a_link_to_the_knowledge_graph(write_dataset):
    link = [["item_id:token", "entity_id:token"], *[[f"i{item}", f"e{item}"] for item in range(10)]]
    triples = [
        ["head_id:token", "relation_id:token", "tail_id:token"],
        *[[f"e{n}", "r", f"e{n + 1}"] for n in range(9)],
    ]
    path = write_dataset("shop", inter=[HEADER, *ROWS[::-1]], link=link, kg=triples)
    splits = build_splits(_config(path, "CKE"))
    assert splits.dataset.item_num == 11 and len(splits.test_set) == 12


# Is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"eval_args": {"split": {"TS": [0.8, 0.2]}}}, "split TS must be three shares"),
        ({"eval_args": {"split": {"RS": [0.8, 0.2]}}}, "split RS must be three shares"),
        ({"eval_args": {"split": {"TS": [0.8, 0.1, 0.1]}, "order": "RO"}}, "split TS is by time: order must be TO"),
        ({"eval_args": {"group_by": "item"}}, "group_by must be user or none"),
        ({"val_interval": {"timestamp": "[5;10]"}}, "timestamp: expected an interval of numbers"),
        ({"val_interval": {"timestamp": "[9,5]"}}, "timestamp: expected an interval of numbers"),
        ({"val_interval": {"timestamp": 5}}, "timestamp: expected an interval of numbers"),
        ({"load_col": {}}, "load_col: got {}, expected columns of inter too"),
        ({"encoding": "utf-9"}, "encoding: got 'utf-9': unknown encoding"),
    ],
)
def test_settings(shop, settings, said):
    with pytest.raises(ConfigError, match=said.replace("{", r"\{").replace("}", r"\}")):
        _config(shop, **settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"eval_args": {"split": {"LS": "test_only"}}}, "this split has no validation part, which is needed"),
        ({"eval_args": {"split": {"LS": "valid_only"}}}, "this split has no test part, which is needed"),
        ({"eval_args": {"split": {"RS": [1, 0, 0]}}}, "this split has no validation part, which is needed"),
        ({"alias_of_item_id": ["other"]}, "alias_of_item_id. should not contain"),
        ({"normalize_field": ["other"]}, "shop: Field .other. does not exist"),
        ({"val_interval": {"other": "[1,2]"}}, "shop: Field .other. not defined"),
        ({"threshold": {"other": 3}}, "shop: Field .other. not in inter_feat"),
    ],
)
def test_settings_that_do_not_fit_the_data(shop, settings, said):
    with pytest.raises((DataError, ConfigError), match=said):
        build_splits(_config(shop, **settings))


@pytest.mark.parametrize("model", ["BPR", "SASRec", "EASE", "DeepFM"])
@pytest.mark.parametrize(
    "mode", ["labeled", {"valid": "full", "test": "labeled"}, {"valid": "labeled", "test": "uni5"}]
)
@pytest.mark.parametrize("metric", ["NDCG@10", "GAUC"])
def test_metrics_of_rankings_on_labelled_rows(shop, model, mode, metric):
    """RecBole fails behind the first epoch."""
    arguments = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "mode": mode}
    metrics = {"metrics": [metric.split("@")[0]], "valid_metric": metric}
    config = _config(shop, model, eval_args=arguments, threshold={"timestamp": 120}, **metrics)
    with pytest.raises(ConfigError, match="got mode .*labeled.* and metrics (NDCG|GAUC), which score rankings"):
        build_splits(config)


RANKED = {"metrics": ["NDCG"], "valid_metric": "NDCG@10", "threshold": {"rating": 4}}
RANKED["eval_args"] = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}


def test_columns_that_candidates_do_not_have(write_dataset):
    """RecBole's full ranking gives its click models columns of users and items alone."""
    header = [*HEADER, "rating:float", "device:token", "dwell:float"]
    rows = [[*row, row[2] // 60, "tv", 3] for row in ROWS]
    path = write_dataset("shop", inter=[header, *rows])
    for columns, settings, unknown in (
        (["device", "dwell"], {}, "device"),
        (["dwell"], {"numerical_features": ["dwell"]}, "dwell"),
    ):
        loaded = {"inter": ["user_id", "item_id", "timestamp", "rating", *columns]}
        with pytest.raises(ConfigError, match=f"load_col: inter: got {unknown}, which DeepFM reads"):
            build_splits(_config(path, "DeepFM", load_col=loaded, **settings, **RANKED))
    loaded = {"inter": ["user_id", "item_id", "timestamp", "rating", "dwell"]}
    assert fit_once(_config(path, "DeepFM", load_col=loaded, epochs=1, **RANKED)) == {"ndcg@10"}
    loaded = {"inter": ["user_id", "item_id", "timestamp", "rating", "device"]}
    assert fit_once(_config(path, "DSSM", load_col=loaded, epochs=1, **RANKED)) == {"ndcg@10"}
    unused = {"unused_col": {"inter": ["device"]}, "load_col": None}
    assert fit_once(_config(path, "DeepFM", epochs=1, **unused, **RANKED)) == {"ndcg@10"}


def fit_once(config):
    """Train a model, and return the names of its test metrics."""
    return set(fit(config, build_splits(config))[0].metrics)


def test_data_in_two_parts(write_dataset):
    files = {"train.inter": [HEADER, *ROWS[:50]], "test.inter": [HEADER, *ROWS[50:]]}
    path = write_dataset("shop", **files)
    with pytest.raises(ConfigError, match=r"benchmark_filename: got 2 parts \(train, test\), expected three"):
        build_splits(_config(path, benchmark_filename=["train", "test"]))


def test_sequential_models_need_histories_in_data_that_come_split(write_dataset):
    names = ["train", "valid", "test"]
    path = write_dataset("shop", **{f"{name}.inter": [HEADER, *ROWS] for name in names})
    with pytest.raises(
        ConfigError, match="benchmark_filename: SASRec needs the history of each row in a column item_id_l"
    ):
        _config(path, "SASRec", benchmark_filename=names)


def test_sequences_are_no_interactions(write_dataset):
    header = ["user_id:token", "item_id_list:token_seq", "item_id:token"]
    rows = [["a", "x y", "z"], ["b", "y", "x"]]
    names = ["train", "valid", "test"]
    path = write_dataset("shop", **{f"{name}.inter": [header, *rows] for name in names})
    settings = {"benchmark_filename": names, "alias_of_item_id": ["item_id_list"]}
    assert build_splits(_config(path, "GRU4Rec", train_neg_sample_args=None, **settings)).test_set is not None
    with pytest.raises(ConfigError, match="RecFound reads one interaction per row, and .* holds sequences"):
        build_splits(_config(path, "RecFound", **settings))


@pytest.mark.parametrize(
    ("name", "own", "said"),
    [
        ("KGAT", {}, r"baselines: KGAT needs .*shop.kg and .*shop.link"),
        ("LDiffRec", {"n_cate": 2}, r"baselines: LDiffRec needs .*item_emb.npy"),
    ],
)
def test_baselines_without_their_files(shop, name, own, said):
    config = _config(shop, "RecFound", baselines=[name], baseline_args={name: own})
    with pytest.raises(ConfigError, match=said):
        check_baselines([name], config, build_splits(config))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model=RecFound", "--baselines=RecFound"], "baselines: unknown RecBole model 'RecFound'"),
        (["--model=Pop", "--dataset="], "dataset: got '', expected the name of a data set"),
        (["--model=RecFound", "--dropout=1"], "dropout: got 1, expected a number, at least 0, below 1"),
        (["--model=Pop", "--output_dir=/proc/none"], "/proc/none"),
    ],
)
def test_the_command_line(capsys, words, said):
    assert main(["run", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("error: ") and said in line


def test_any_text_may_stand_in_a_figure():
    names = ["$\\frac{", "50% $ off", "a_b^c", "<b>&\"'", "\u6771\u4eac", "--> x", ""]
    for figure in (
        bars(names, list(range(len(names))), "$"),
        curves({name: [(0, 1.0), (1, 2.0)] for name in names}, "x_$"),
        heat_map(names[:3], [[0.1, 0.2, 0.3]] * 3),
    ):
        assert figure.startswith("<svg") and figure.rstrip().endswith("</svg>")
