"""Settings: where they come from, which wins, and every kind of wrong one."""

import os
import sys

import pytest
import torch
import yaml
from recbole.config import Config as RecBoleConfig

from recbole_recfound.config.configurator import Config
from recbole_recfound.config.known import known_rules, our_files
from recbole_recfound.config.property_files import parse_text, read_settings
from recbole_recfound.config.schema import from_text
from recbole_recfound.config.settings import check_value
from recbole_recfound.errors import ConfigError, DataError, RecFoundError
from recbole_recfound.runtime.device import is_gpu


@pytest.fixture
def settings_file(tmp_path):
    def write(text: str, name: str = "mine.yaml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


# names of registered things


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        ({"tasks": ["U2I", "QQ", "SRR"]}, ["tasks: unknown task 'QQ'", "'SRR' (did you mean SR?); known: U2I, Q2I"]),
        ({"tasks": "QQ"}, ["tasks: unknown task 'QQ'"]),
        (
            {"only_tasks": ["XY"], "balanced_tasks": ["YZ"]},
            ["only_tasks: unknown task 'XY'", "balanced_tasks: unknown"],
        ),
        ({"prompts": {"QQ": "{{ item }}", "SR": "x"}}, ["prompts: unknown task 'QQ'"]),
        ({"prompts": {"SR": 5}}, ["prompts: got {'SR': 5}, expected a mapping of text"]),
        ({"task_test_examples": {"SR": 2, "XY": 2, "ZZ": 1}}, ["task_test_examples: unknown task 'XY', 'ZZ'"]),
        ({"task_files": {"tests": ["a.jsonl"]}}, ["unknown part tests, expected train, valid, test"]),
        ({"scheduler": "s3"}, ["scheduler: got 's3', expected one of ", "s2sched", "coba", "proportional", "uniform"]),
        ({"adapter": "ia3"}, ["adapter: got 'ia3', expected one of ", "tmole", "lora"]),
        ({"merge_method": "mean"}, ["merge_method: got 'mean', expected one of ", "slerp", "dare_ties", "none"]),
        (
            {"merge_args": {"sparsify": "top"}},
            ["merge_args: sparsify: got 'top', expected one of none, magnitude, random"],
        ),
        ({"tasks": ["QQ"], "scheduler": "s3", "seeds": 1}, ["unknown task 'QQ'", "'s3'", "seeds: unknown setting"]),
    ],
    ids=str,
)
def test_unknown_names_are_refused_before_data_and_backbone_are_loaded(settings, messages):
    nowhere = {"data_path": "/nowhere", "backbone": "/nowhere", "use_gpu": False}
    with pytest.raises(ConfigError) as error:
        Config("RecFound", "nothing", config_dict=settings | nowhere)
    assert not [message for message in messages if message not in str(error.value)], error.value


def test_unknown_names_in_a_file_have_their_line(settings_file):
    file = settings_file("seed: 1\ntasks: [U2I, QQ]\n")
    with pytest.raises(ConfigError, match=r"tasks \(.*mine.yaml:2\): unknown task 'QQ'"):
        Config("RecFound", "nothing", [file])


# what wins


def test_from_weakest_to_strongest(tiny_path, settings_file):
    def seed(files=(), **settings):
        return Config("BPR", "tiny", files, {"data_path": tiny_path, **settings})["seed"]

    first, second = settings_file("seed: 1\n", "a.yaml"), settings_file("seed: 2\n", "b.yaml")
    assert seed() == 2020
    assert seed([first]) == 1
    assert seed([first, second]) == 2
    assert seed([first, second], seed=3) == 3


def test_our_protocol_over_recboles_defaults_and_the_models_own_settings_kept():
    config = Config("SASRec", "ml-100k")
    assert config["eval_args"]["split"] == {"LS": "valid_and_test"} and config["eval_args"]["order"] == "TO"
    assert config["metrics"] == ["Recall", "NDCG", "MRR", "Hit"] and config["valid_metric"] == "NDCG@10"
    assert config["hidden_size"] == 64 and config["layer_norm_eps"] == 1e-12
    assert config["load_col"] == {"inter": ["user_id", "item_id", "rating", "timestamp"]}


def test_what_recbole_sets_for_a_kind_of_model_stays():
    config = Config("DeepFM", "ml-100k")
    assert config["metrics"] == ["AUC", "LogLoss"] and config["eval_args"]["mode"] == {
        "valid": "labeled",
        "test": "labeled",
    }


def test_the_command_line_of_the_process_is_never_read(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "--seed=7", "--no_such_key=1"])
    assert Config("BPR", "ml-100k")["seed"] == 2020


def test_sequential_models_with_softmax_start_without_further_ado():
    assert Config("SASRec", "ml-100k")["train_neg_sample_args"]["distribution"] == "none"
    assert Config("BPR", "ml-100k")["train_neg_sample_args"]["distribution"] == "uniform"
    with pytest.raises(ConfigError, match="train_neg_sample_args.*should be None when the loss_type is CE"):
        Config("SASRec", "ml-100k", config_dict={"train_neg_sample_args": {"distribution": "uniform"}})


def test_model_and_dataset_may_stand_in_a_file(settings_file):
    config = Config(config_file_list=[settings_file("model: BPR\ndataset: ml-100k\n")])
    assert (config["model"], config["dataset"]) == ("BPR", "ml-100k")
    with pytest.raises(ConfigError, match="^model is not given"):
        Config(dataset="ml-100k")


# values typed as text


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("learning_rate", "1e-3", 0.001),
        ("learning_rate", "1", 1),
        ("topk", "[5,10]", [5, 10]),
        ("topk", "5,10", [5, 10]),
        ("metrics", "Recall,NDCG", ["Recall", "NDCG"]),
        ("baselines", "Pop,BPR", ["Pop", "BPR"]),
        ("baselines", "Pop", ["Pop"]),
        ("baselines", "[]", []),
        ("mask_history", "False", False),
        ("mask_history", "true", True),
        ("rm_dup_inter", "~", None),
        ("data_path", "/data/my data #1", "/data/my data #1"),
        ("data_path", "1e-3", "1e-3"),
        ("seq_separator", "|", "|"),
        ("seq_separator", " ", " "),
        ("field_separator", ", ", ", "),
        ("resume", "", ""),
        ("backbone", "None", "None"),
        ("gpu_id", "0", 0),
        ("gpu_id", "0,1", [0, 1]),
        ("only_tasks", "U2I", ["U2I"]),
        ("only_tasks", "[U2I, SR]", ["U2I", "SR"]),
        ("domain", "age:25/35,timestamp:hour", ["age:25/35", "timestamp:hour"]),
        ("max_steps", "~", None),
        ("task_test_examples", "{SR: 5}", {"SR": 5}),
        ("kernel_args", "{code_size: 4}", {"code_size": 4}),
        ("clip_grad_norm", "None", None),
        ("clip_grad_norm", "{'max_norm': 5, 'norm_type': 2}", {"max_norm": 5, "norm_type": 2}),
        ("wandb_project", "2024", "2024"),
        ("wandb_project", "a: b", "a: b"),
        ("wandb_project", "[unclosed", "[unclosed"),
        ("wandb_project", "__import__('os').getcwd()", "__import__('os').getcwd()"),
        ("weight_decay", "1e-05", 1e-05),
    ],
)
def test_the_command_line_reads_text_by_the_rule_of_its_key(key, text, value):
    read = from_text(known_rules()[key], text)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "-2.5e+4", "1.", ".5", "3.0"])
def test_numbers_as_python_writes_them(text):
    assert parse_text(text) == float(text)


@pytest.mark.parametrize("text", ["e5", "1.2.3", "3", "1_a", "-", ".", "2020-01-01x"])
def test_what_is_no_float_is_none(text):
    assert not isinstance(parse_text(text), float)


# wrong settings

WRONG = [
    ({"learning_rte": 1}, "learning_rte: unknown setting; did you mean learning_rate?"),
    ({"mask_histroy": True}, "mask_histroy: unknown setting; did you mean mask_history?"),
    ({"zzzzqqqq": 1}, "zzzzqqqq: unknown setting"),
    ({"epochs": "many"}, "epochs: got 'many', expected a whole number"),
    ({"epochs": 1.5}, "epochs: got 1.5, expected a whole number"),
    ({"epochs": 0}, "epochs: got 0, expected a whole number, at least 1"),
    ({"epochs": None}, "epochs: got nothing, expected a whole number"),
    ({"seed": True}, "seed: got True, expected a whole number"),
    ({"learning_rate": 0}, "learning_rate: got 0, expected a number, above 0"),
    ({"learner": "adm"}, "learner: got 'adm', expected one of adamw, adam, sgd; did you mean adam?"),
    ({"state": "loud"}, "state: got 'loud': expected one of debug, info"),
    ({"save_dataloaders": True}, "save_dataloaders: got True, expected one of False"),
    ({"mask_history": "maybe"}, "mask_history: got 'maybe', expected True or False"),
    ({"topk": [10, 0]}, "topk: got .10, 0., expected a list of whole numbers or a whole number, at least 1"),
    ({"topk": [[1]]}, r"topk: got \[\[1\]\], expected a list of whole numbers"),
    ({"load_col": ["user_id"]}, r"load_col: got \['user_id'\], expected a mapping or nothing"),
    ({"eval_args": {"spilt": {}}}, "eval_args: .* has no part 'spilt'"),
    ({"eval_args": {"split": {"XX": 1}}}, "eval_args: .*split must be one of"),
    ({"eval_args": {"split": {"LS": "nope"}}}, "eval_args: .*split LS must be one of valid_and_test"),
    ({"eval_args": {"split": {"RS": "all"}}}, "eval_args: .*split RS must be a list of numbers"),
    ({"load_col": {"inter": None}}, "load_col: .*expected a list of columns for each file"),
    ({"unload_col": {"inter": "timestamp"}}, "unload_col: .*expected a list of columns for each file"),
    (
        {"unload_col": {"inter": ["timestamp"]}},
        "unload_col: got timestamp, which is needed .*leave it out of unload_col",
    ),
    ({"unused_col": {"inter": ["user_id"]}}, "unused_col: got user_id, which is needed .*leave it out of unused_col"),
    ({"unused_col": {"item": ["item_id"]}}, "unused_col: got columns of item, of which load_col reads none"),
    (
        {"additional_feat_suffix": ["item"]},
        "additional_feat_suffix: .*item is read anyway, expected suffixes of further",
    ),
    ({"encoding": "utf-16"}, "encoding: got 'utf-16': .*convert the files to utf-8"),
    ({"encoding": "utf-9"}, "encoding: got 'utf-9': unknown encoding"),
    ({"baselines": [1]}, "baselines: got .1., expected a list of text"),
    ({"baseline_args": {"BPR": 3}}, "baseline_args: got .*, expected a mapping of mappings"),
    ({"eval_args": {"order": "XX"}}, "eval_args: .*order must be TO"),
    ({"eval_args": {"mode": "some"}}, "eval_args: .*mode 'some' must be full"),
    (
        {"eval_args": {"mode": "full"}, "metrics": ["AUC"], "valid_metric": "AUC"},
        "eval_args: got mode: full, which ranks all items, with metrics: AUC, .* expected mode: labeled",
    ),
    (
        {"eval_args": {"order": "TO"}, "metrics": ["AUC", "LogLoss"], "valid_metric": "AUC"},
        "eval_args: got no mode, which means full",
    ),
    ({"user_inter_num_interval": "5"}, "user_inter_num_interval: .*interval such as"),
    ({"valid_metric": "NDCG at 10"}, "valid_metric: .*metric's name"),
    ({"valid_metric": "MAP@10"}, "valid_metric: got MAP@10, expected one of metrics"),
    ({"valid_metric": "NDCG@20"}, "valid_metric: got NDCG@20, expected a length among topk: 10"),
    ({"metrics": ["Recal"]}, "metrics: got Recal, expected names among"),
    ({"gpu_id": "a", "use_gpu": True}, "CUDA|GPU"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_settings_are_one_clear_line(settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        Config("BPR", "ml-100k", config_dict=settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\n\nepohcs: 3\n", r"epohcs \(.*mine.yaml:3\): unknown setting; did you mean epochs\?"),
        ("# comment\nepochs: many\n", r"epochs \(.*mine.yaml:2\): got 'many'"),
        ("seed: 1\nseed: 2\n", r"seed \(.*mine.yaml:2\): specified more than once, first in line 1"),
        ("seed: [1\n", r"mine.yaml:\d: not valid YAML"),
        ("- seed\n", r"mine.yaml:1: expected `key: value` lines"),
        ("seed: !!python/object/apply:os.getcwd []\n", "mine.yaml:1: not valid YAML"),
    ],
)
def test_wrong_files_name_the_line(text, message, settings_file):
    with pytest.raises(ConfigError, match=message):
        Config("BPR", "ml-100k", [settings_file(text)])


def test_missing_file_and_empty_file(settings_file):
    with pytest.raises(ConfigError, match="config file nowhere.yaml does not exist"):
        Config("BPR", "ml-100k", ["nowhere.yaml"])
    assert Config("BPR", "ml-100k", [settings_file("# nothing\n")])["seed"] == 2020


def test_everything_wrong_is_wrong_before_model_and_data_are_looked_for():
    with pytest.raises(ConfigError, match="learning_rte"):
        Config("NoSuchModel", "no-such-data", config_dict={"learning_rte": 1})


@pytest.mark.parametrize(
    ("name", "advice"), [("BRP", "BPR"), ("bpr", "BPR"), ("recfound", "RecFound"), ("LightGNC", "LightGCN")]
)
def test_unknown_model(name, advice):
    with pytest.raises(ConfigError, match=f"model: unknown model '{name}'; did you mean {advice}"):
        Config(name, "ml-100k")


# data


def test_missing_data_set_is_one_line_and_nothing_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "recbole.data.dataset.dataset.Dataset._download", lambda self: pytest.fail("RecBole would download")
    )
    with pytest.raises(
        DataError, match="data set 'ml-1m' not found: .*ml-1m.inter does not exist; put the atomic files into"
    ):
        Config("BPR", "ml-1m", config_dict={"data_path": tmp_path})
    with pytest.raises(DataError, match="nowhere.train.inter"):
        Config("BPR", "nowhere", config_dict={"benchmark_filename": ["train", "valid", "test"]})


def test_data_path_one_level_too_deep(tiny_path):
    with pytest.raises(DataError, match=f"names the folder above the data set's own: --data_path={tiny_path}"):
        Config("BPR", "tiny", config_dict={"data_path": tiny_path / "tiny"})


def test_own_copy_of_ml_100k_goes_before_recboles(write_dataset):
    rows = [["user_id:token", "item_id:token", "rating:float", "timestamp:float"], ["a", "b", 1, 1]]
    path = write_dataset("ml-100k", inter=rows)
    assert Config("BPR", "ml-100k", config_dict={"data_path": path})["data_path"] == str(path / "ml-100k")
    assert "dataset_example" in Config("BPR", "ml-100k")["data_path"]
    with pytest.raises(DataError, match="data set 'ml-100k' not found: nowhere/ml-100k/ml-100k.inter does not exist"):
        Config("BPR", "ml-100k", config_dict={"data_path": "nowhere"})


def test_columns_that_are_not_there(write_dataset):
    path = write_dataset("shop", inter=[["user_id:token", "item_id:token"], ["a", "b"]])
    with pytest.raises(DataError, match=r"shop.inter:1: no column 'timestamp' \(TIME_FIELD.*it has user_id, item_id"):
        Config("BPR", "shop", config_dict={"data_path": path})
    with pytest.raises(ConfigError, match="load_col: inter does not name timestamp"):
        Config("BPR", "shop", config_dict={"data_path": path, "load_col": {"inter": ["user_id", "item_id"]}})
    path = write_dataset("shop", inter=[["user_id:token", "item_id:token", "timestamp:float"], ["a", "b", 1]])
    with pytest.raises(DataError, match="no column 'rating' .load_col."):
        Config(
            "BPR",
            "shop",
            config_dict={"data_path": path, "load_col": {"inter": ["user_id", "item_id", "timestamp", "rating"]}},
        )


@pytest.mark.parametrize(
    ("given", "ours"),
    [({"epochs": 5}, "max_steps"), ({"train_batch_size": 64}, "batch_args"), ({"eval_step": 2}, "eval_interval")],
)
def test_what_recfound_does_not_read_is_refused(given, ours):
    with pytest.raises(ConfigError, match=f"{next(iter(given))}: not read by RecFound; use {ours}"):
        Config("RecFound", "ml-100k", config_dict=given)
    assert Config("BPR", "ml-100k", config_dict=given)[next(iter(given))] == next(iter(given.values()))
    defaults = Config("RecFound", "ml-100k")
    Config(
        "RecFound", "ml-100k", config_dict={key: defaults[key] for key in ("epochs", "train_batch_size", "eval_step")}
    )


# the files themselves


def test_every_setting_of_our_files_is_explained_and_fits_its_own_rule():
    for path in our_files():
        for setting in read_settings(path):
            assert setting.hint and setting.effect, f"{path.name}:{setting.line} {setting.key} has no `# (type) effect`"
            check_value(setting.key, setting.value, f"{path}:{setting.line}")


def test_recboles_own_defaults_fit_the_rules():
    from recbole_recfound.runtime.locations import recbole_dir

    for path in (recbole_dir() / "properties" / "model").glob("*.yaml"):
        for setting in read_settings(path):
            check_value(setting.key, setting.value, f"{path}:{setting.line}")


def test_recboles_files_are_read_as_recbole_reads_them():
    from recbole_recfound.runtime.locations import recbole_dir

    loader = RecBoleConfig._build_yaml_loader(None)
    for path in (recbole_dir() / "properties").glob("**/*.yaml"):
        if "url" not in path.name:
            assert {s.key: s.value for s in read_settings(path)} == (yaml.load(path.read_text(), Loader=loader) or {})


def test_known_settings_cover_recboles_argument_lists():
    assert {"gpu_id", "epochs", "eval_args", "load_col", "hidden_size", "kg_reverse_r", "benchmark_filename"} <= set(
        known_rules()
    )


# device


def test_device_and_environment_are_left_alone(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    config = Config("BPR", "ml-100k", config_dict={"gpu_id": 0})
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert config["use_gpu"] is is_gpu(config["device"])


def test_errors_are_our_own_kind():
    assert issubclass(ConfigError, RecFoundError) and issubclass(ConfigError, ValueError)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"u1\ti2\t2\n", b"u1\ti2\n", r"seq.inter:3: 2 cells where the header has 3"),
        (b"u1\ti2\t2\n", b"u1\ti2\t2\t9\n", r"seq.inter:3: 4 cells where the header has 3"),
        (b"u1\ti2\t2\n", b"u1\ti2\t\n", r"seq.inter:3: timestamp is empty"),
        (b"u1\ti2\t2\n", b"u1\t\t2\n", r"seq.inter:3: item_id is empty"),
        (b"u1\ti2\t2\n", b"u1\ti2\tabc\n", r"seq.inter:3: timestamp is 'abc', expected a number"),
        (b"u1\ti2\t2\n", b"u1\ti\xe9\t2\n", r"seq.inter:3: not UTF-8; convert the file"),
        (b"u1\ti2\t2\n", b"\nu1\ti2\t2\n", r"seq.inter:3: an empty line"),
        (b"timestamp:float", b"timestamp", r"seq.inter:1: column 'timestamp' needs a type"),
        (b"item_id:token", b"item\xe9:token", r"seq.inter:1: not UTF-8"),
    ],
)
def test_malformed_interactions_name_file_and_line(write_dataset, old, new, message):
    rows = [
        ["user_id:token", "item_id:token", "timestamp:float"],
        *([f"u{n // 4}", f"i{n % 5}", n] for n in range(4, 20)),
    ]
    rows[1:3] = [["u1", "i1", 1], ["u1", "i2", 2]]
    path = write_dataset("seq", inter=rows)
    file = path / "seq" / "seq.inter"
    settings = {"data_path": str(path), "load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
    Config("RecFound", "seq", config_dict=settings)
    content = file.read_bytes()
    assert content.count(old) == 1
    file.write_bytes(content.replace(old, new) + b"\n\n")
    with pytest.raises(DataError, match=message) as caught:
        Config("RecFound", "seq", config_dict=settings)
    assert "\n" not in str(caught.value)
    file.write_bytes(
        content.replace(b"\n", b"\r\n") + b"\n"
    )  # line ends of another system, and empty lines at the end, are no rows
    Config("RecFound", "seq", config_dict=settings)


def test_unknown_columns_of_items_are_refused(tiny_path):
    settings = {
        "data_path": str(tiny_path),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "colour"]},
    }
    with pytest.raises(DataError, match=r"tiny.item:1: no column 'colour' \(load_col\); it has item_id"):
        Config("RecFound", "tiny", config_dict=settings)


@pytest.mark.parametrize(
    ("raw", "message"),
    [(b"seed: 1\n# caf\xe9\n", "odd.yaml:2: not UTF-8 text"), (b"seed: 1\n# \x00\n", "odd.yaml:2: not UTF-8")],
)
def test_config_files_that_are_no_text(tmp_path, raw, message):
    (tmp_path / "odd.yaml").write_bytes(raw)
    with pytest.raises(ConfigError, match=message):
        read_settings(tmp_path / "odd.yaml")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("n_layers", 3, "a setting of AutoInt, BERT4Rec, CORE, ..., not read by RecFound; for a baseline write"),
        ("enable_amp", True, "use precision"),
    ],
)
def test_settings_of_other_models_are_refused(key, value, message):
    with pytest.raises(ConfigError, match=f"{key}: .*{message}"):
        Config("RecFound", "ml-100k", config_dict={key: value})
    assert Config("SASRec", "ml-100k", config_dict={"n_layers": 3})["n_layers"] == 3


def test_wandb_must_be_installed(monkeypatch):
    monkeypatch.setattr("recbole_recfound.config.configurator.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="log_wandb: pip install wandb"):
        Config("BPR", "ml-100k", config_dict={"log_wandb": True})


@pytest.mark.parametrize(
    ("metric", "fits"),
    [("NDCG@10", True), ("ItemCoverage@10", True), ("GiniIndex", False), ("NDCG", False)],
)
def test_metrics_of_a_list_and_only_these_name_its_length(metric, fits):
    given = {"metrics": [metric.partition("@")[0]], "valid_metric": metric}
    if fits:
        assert Config("BPR", "ml-100k", config_dict=given)["valid_metric"] == metric
    else:
        with pytest.raises(ConfigError, match=f"valid_metric: got {metric}, expected the length of its list"):
            Config("BPR", "ml-100k", config_dict=given)


def test_a_forgotten_model_of_iak_is_noticed():
    config = Config("RecFound", "ml-100k", config_dict={"domain": ["occupation"]})
    assert config.notes == ["domain: not read by RecFound, only by IAK"]


@pytest.mark.parametrize(("device", "mode"), [("cpu", "item"), ("cuda", "positions")])
def test_the_mode_of_histories_is_kept_as_it_is_used(monkeypatch, device, mode):
    monkeypatch.setattr("recbole_recfound.config.configurator.choose_device", lambda *_: torch.device(device))
    assert Config("RecFound", "ml-100k")["history"] == mode
    other = "item" if mode == "positions" else "positions"
    assert Config("RecFound", "ml-100k", config_dict={"history": other})["history"] == other


def test_metrics_and_device_are_reported_together():
    settings = {"metrics": ["Recal"], "valid_metric": "NDCG@7", "use_gpu": True}
    with pytest.raises(ConfigError, match="metrics: got Recal, expected names among .*did you mean recall") as caught:
        Config("BPR", "ml-100k", config_dict=settings)
    assert torch.cuda.is_available() or "use_gpu" in str(caught.value)


def test_filters_of_a_data_set_that_comes_split_are_refused(write_dataset):
    """RecBole reads its parts as they are."""
    rows = [["user_id:token", "item_id:token"], ["u", "i"]]
    path = str(write_dataset("parts", **{f"{part}.inter": rows for part in ("train", "valid", "test")}))
    settings = {"data_path": path, "benchmark_filename": ["train", "valid", "test"]}
    Config("BPR", "parts", None, settings | {"user_inter_num_interval": "[0,inf)"})
    with pytest.raises(ConfigError) as caught:
        Config("BPR", "parts", None, settings | {"val_interval": {"rating": "[3,inf)"}, "rm_dup_inter": "first"})
    assert [line.split(":")[0] for line in caught.value.problems] == ["rm_dup_inter", "val_interval"]
