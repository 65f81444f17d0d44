"""All mistakes in one error, notes, merging of options, text that stays text."""

import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import yaml

from recbole_recfound.baseline.recbole import baseline_config
from recbole_recfound.config import known, models, renamed
from recbole_recfound.config.configurator import Config
from recbole_recfound.config.settings import Settings, merged, refuse, settings_of
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.pretrained.base_config import base_config

# As in many repositories that run RecBole 0.2 to 1.0: keys of old versions beside those of BPR and SASRec.
RECBOLE_YAML = """\
USER_ID_FIELD: user_id
load_col:
  inter: [user_id, item_id, rating, timestamp]
min_user_inter_num: 5
epochs: 500
train_batch_size: 4096
eval_step: 2
learning_rate: 0.003
weight_decay: 0.0001
stopping_step: 12
neg_sampling: {uniform: 1}
eval_setting: TO_LS,full
group_by_user: True
split_ratio: [0.8, 0.1, 0.1]
n_layers: 2
hidden_act: gelu
metrics: ["Recall", "NDCG"]
topk: [10, 0]
valid_metric: NDCG at 10
learner: adm
"""


@pytest.fixture
def write(tmp_path):
    def to_file(text: str, name: str = "mine.yaml") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return to_file


def test_all_mistakes_of_a_recbole_file_in_one_error_in_groups(write):
    with pytest.raises(ConfigError) as caught:
        settings_of([write(RECBOLE_YAML)], {"max_stps": 3, "iak_epochs": 2, "scheduler": "s3"}, "RecFound")
    groups = caught.value.groups
    keys = {heading: [line.split(":")[0].split(" ")[0] for line in lines] for heading, lines in groups.items()}
    assert list(keys) == ["unknown keys", "renamed keys", "not read by RecFound", "wrong values"]
    assert keys == {
        "unknown keys": ["max_stps"],
        "renamed keys": [
            "min_user_inter_num",
            "neg_sampling",
            "eval_setting",
            "group_by_user",
            "split_ratio",
            "iak_epochs",
        ],
        "not read by RecFound": ["epochs", "train_batch_size", "eval_step", "n_layers", "hidden_act"],
        "wrong values": ["topk", "valid_metric", "learner", "scheduler"],
    }
    text = str(caught.value)
    assert text.startswith(
        "16 problems in the settings\nunknown keys:\n  max_stps: unknown setting; did you mean max_steps?\n"
    )
    assert len(caught.value.problems) == 16 and text.count("\n") == 16 + 4
    assert re.search(r"  epochs \(.*mine.yaml:5\): not read by RecFound; use max_steps", text)
    assert re.search(
        r"  n_layers \(.*mine.yaml:15\): a setting of .*; for a baseline write baseline_args: {\w+: {n_layers: 2}}",
        text,
    )
    assert re.search(
        r"  neg_sampling \(.*mine.yaml:11\): a key of an older RecBole, .*; write train_neg_sample_args: {", text
    )
    assert re.search(r"  topk \(.*mine.yaml:18\): got \[10, 0\], expected a list of whole numbers", text)


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_numbers_are_finite(number):
    given = {"time_budget": number, "learning_rate": number, "val_interval": {"rating": "[3,inf)"}}
    settings_of([], {"clip_grad_norm": {"max_norm": 5, "norm_type": float("inf")}}, "BPR")
    with pytest.raises(ConfigError) as caught:
        settings_of([], given, "RecFound")
    assert sorted(caught.value.problems) == [
        f"learning_rate: got {number}, expected a number, above 0",
        f"time_budget: got {number}, expected a number, at least 0",
    ]


def test_files_dict_options_models_and_prompts_come_together(write):
    files = [
        write("kernel_args: {combine: sum}\nseed: x\n", "a.yaml"),
        "nowhere.yaml",
        write("seed: 1\nseed: 2\n", "c.yaml"),
    ]
    given = {
        "iak_args": {"beta": -1, "lambda": 1},
        "baseline_args": {"BPR": {"epohs": 1, "learning_rate": 0, "n_layers": 2}},
        "base_args": {"epochs": "many"},
        "baselines": ["Popp"],
        "base_model": "DeepFn",
    }
    with pytest.raises(ConfigError) as caught:
        settings_of(files, given, "IAQ")
    text = str(caught.value)
    for message in (
        "config file nowhere.yaml does not exist",
        "c.yaml:2): specified more than once, first in line 1",
        "baseline_args: BPR: epohs: unknown setting; did you mean epochs?",
        "a.yaml:2): got 'x'",
        "baselines: unknown RecBole model 'Popp'; did you mean Pop?",
        "base_model: unknown model 'DeepFn'; did you mean DeepFM?",
        "model: unknown model 'IAQ'; did you mean IAK?",
        "a.yaml:1): combine: got 'sum', expected one of residual, replace, gated",
        "iak_args: beta: got -1, expected",
        "iak_args: unknown option lambda; ",
        "baseline_args: BPR: learning_rate: got 0, expected a number, above 0",
        "base_args: epochs: got 'many', expected a whole number",
    ):
        assert message in text, message
    assert len(caught.value.problems) == 12


def test_a_single_problem_is_one_line():
    with pytest.raises(ConfigError) as caught:
        settings_of(None, {"seed": "x"})
    assert str(caught.value) == "seed: got 'x', expected a whole number, at least 0, at most 4294967295"
    assert caught.value.problems == [str(caught.value)]


def test_refuse_raises_all_problems_or_nothing():
    refuse([])
    with pytest.raises(ConfigError) as caught:
        refuse(["a: got 1, expected 2", "b: got 2, expected 3"])
    assert caught.value.problems == ["a: got 1, expected 2", "b: got 2, expected 3"]
    assert "wrong values:\n  a: got 1" in str(caught.value)


@pytest.mark.parametrize("key", ["sampling", "lr", "batch_size_of_all", "use_neg", "eval_settings_of_mine", "zzz"])
def test_no_hint_without_a_near_name(key):
    with pytest.raises(ConfigError, match=f"^{key}: unknown setting$"):
        settings_of(None, {key: 1})


def test_renamed_keys_lead_to_keys_that_exist():
    for table in (renamed.RENAMED, renamed.OF_OLDER_RECBOLE):
        for old, new in table.items():
            assert old not in known.known_rules() or old in known.recbole_lines(), old
            word = new.replace(" or ", ", ").split(",")[0].split(":")[0].split(" ")[0]
            assert word in known.known_rules() or word == "nothing", (old, new)


# notes


@pytest.mark.parametrize(
    ("model", "given", "notes"),
    [
        ("Pop", {"max_steps": 0}, ["max_steps: not read by Pop, only by RecFound"]),
        (
            "Pop",
            {"max_steps": 0, "merge_method": "none"},
            ["max_steps, merge_method: not read by Pop, only by RecFound"],
        ),
        ("IAK", {"max_steps": 0}, ["max_steps: not read by IAK, only by RecFound"]),
        ("RecFound", {"max_steps": 0, "baselines": ["Pop"], "topk": [5]}, []),
        ("Pop", {"epochs": 3, "n_layers": 2, "learning_rate": 0.1}, []),
    ],
)
def test_our_keys_that_a_model_does_not_read_are_notes(model, given, notes):
    assert settings_of(None, given, model).notes == notes


def test_keys_that_mean_another_thing_for_a_baseline_are_a_note(write):
    file = write("learning_rate: 0.003\nweight_decay: 0.0001\nstopping_step: 12\ntopk: [10]\nseed: 1\n")
    (note,) = settings_of([file], None, "RecFound").notes
    assert re.fullmatch(
        r"learning_rate \(.*mine.yaml:1\), weight_decay \(.*:2\), stopping_step \(.*:3\): set for RecFound, "
        r"not for baselines; for a baseline write baseline_args: {BPR: {learning_rate: 0.003}}",
        note,
    )
    (note,) = settings_of(None, {"learning_rate": 0.003}, "RecFound").notes
    assert note.startswith("learning_rate: set for RecFound")
    assert settings_of([file], None, "BPR").notes == []
    assert settings_of(None, {"learning_rate": Config("RecFound", "ml-100k")["learning_rate"]}, "RecFound").notes == []
    typed = Settings({"learning_rate": 0.003}, {"learning_rate": "command line"})
    assert settings_of(None, typed, "RecFound").notes == []


def test_a_base_may_have_keys_that_it_does_not_read():
    assert settings_of(None, {"n_layers": 2, "epochs": 1}, "RecFound", strict=False).notes == []


# merging


def test_options_merge_key_by_key_from_weak_to_strong(write):
    first = write(
        "kernel_args: {combine: gated, code_size: 4}\nbaseline_args: {BPR: {epochs: 1}, Pop: {epochs: 2}}\n", "a.yaml"
    )
    second = write("kernel_args: {code_size: 8}\nbaseline_args: {BPR: {learning_rate: 0.1}}\n", "b.yaml")
    settings = settings_of([first, second], {"kernel_args": {"prior": "learned"}, "eval_args": {"mode": "uni5"}}, "IAK")
    assert settings["kernel_args"] == {"combine": "gated", "code_size": 8, "prior": "learned"}
    assert settings["baseline_args"] == {"BPR": {"epochs": 1, "learning_rate": 0.1}, "Pop": {"epochs": 2}}
    assert settings["eval_args"] == {"mode": "uni5"}


def test_recboles_mappings_are_replaced(write):
    first = write(
        "eval_args: {split: {RS: [0.8, 0.1, 0.1]}, mode: full}\nbaseline_args: {BPR: {eval_args: {order: RO}}}\n"
    )
    given = {
        "eval_args": {"order": "TO"},
        "baseline_args": {"BPR": {"eval_args": {"mode": "full"}}},
        "load_col": {"inter": ["a"]},
    }
    settings = settings_of([first], given, "BPR")
    assert settings["eval_args"] == {"order": "TO"} and settings["load_col"] == {"inter": ["a"]}
    assert settings["baseline_args"] == {"BPR": {"eval_args": {"mode": "full"}}}


def test_merging_reaches_the_defaults_of_model_and_data_set(monkeypatch, tmp_path, tiny_path):
    original, ours = known.properties_dir(), tmp_path / "properties"
    (ours / "model").mkdir(parents=True)
    (ours / "dataset").mkdir()
    (ours / "overall.yaml").write_text((original / "overall.yaml").read_text())
    (ours / "dataset" / "tiny.yaml").write_text("baseline_args: {BPR: {epochs: 7, learning_rate: 0.5}}\n")
    monkeypatch.setattr("recbole_recfound.config.configurator.properties_dir", lambda: ours)
    given = {"data_path": str(tiny_path), "baseline_args": {"BPR": {"epochs": 2}, "Pop": {"seed": 1}}}
    config = Config("BPR", "tiny", config_dict=given)
    assert config["baseline_args"] == {"BPR": {"epochs": 2, "learning_rate": 0.5}, "Pop": {"seed": 1}}


def test_values_from_python_are_kept_as_a_file_has_them():
    """What a run writes of its settings must repeat it: YAML knows neither tuples nor numpy's numbers."""
    given = {
        "metrics": ("Recall", "NDCG"),
        "learning_rate": np.float64(0.01),
        "topk": np.array([5, 10]),
        "loss_args": OrderedDict(temperature=np.float32(0.5)),
        "baseline_args": {"BPR": {"topk": (5,)}},
        "output_dir": "~/runs",
        "data_path": Path("data"),
    }
    settings = settings_of(None, given, "RecFound")
    assert yaml.safe_load(yaml.safe_dump(dict(settings))) == {
        "metrics": ["Recall", "NDCG"],
        "learning_rate": 0.01,
        "topk": [5, 10],
        "loss_args": {"temperature": 0.5},
        "baseline_args": {"BPR": {"topk": [5]}},
        "output_dir": str(Path.home() / "runs"),
        "data_path": "data",
    }


def test_merging_changes_neither_source():
    weaker, stronger = {"kernel_args": {"layer": "a"}}, {"kernel_args": {"prior": "learned"}}
    assert merged(weaker, stronger) == {"kernel_args": {"layer": "a", "prior": "learned"}}
    assert weaker == {"kernel_args": {"layer": "a"}} and stronger == {"kernel_args": {"prior": "learned"}}


# text

TEXTS = ["1e-3", "None", "[x]", "|", "a, b", "True", "/data/my data #1", "{a: 1}", " ", "'x'"]


@pytest.mark.parametrize("text", TEXTS)
def test_text_given_as_a_python_object_is_never_parsed(text):
    given = {"wandb_project": text, "seq_separator": text, "output_dir": text}
    config = Config("BPR", "ml-100k", config_dict=given)
    assert {key: config[key] for key in given} == given
    baseline = baseline_config(
        "Pop", Config("BPR", "ml-100k", config_dict=given | {"baseline_args": {"Pop": {"wandb_project": text}}}), text
    )
    assert {baseline["seq_separator"], baseline["wandb_project"], baseline["checkpoint_dir"]} == {text}


@pytest.mark.parametrize("text", TEXTS)
def test_text_handed_on_to_a_base_is_never_parsed(text):
    run = {"base_checkpoint": "", "base_model": "BPR", "base_args": {"wandb_project": text}, "checkpoint_dir": text}
    base, _ = base_config("ml-100k", {"seq_separator": text}, run)
    assert {base["seq_separator"], base["wandb_project"], base["checkpoint_dir"]} == {text}


def test_text_of_a_yaml_file_is_never_parsed_twice(write):
    file = write("wandb_project: '1e-3'\nseq_separator: '|'\noutput_dir: '[x]'\n")
    config = Config("BPR", "ml-100k", [file])
    assert (config["wandb_project"], config["seq_separator"], config["output_dir"]) == ("1e-3", "|", "[x]")


def test_a_single_text_is_a_list_of_one_and_commas_split_only_on_the_command_line():
    settings = settings_of(None, {"domain": "age:25/35,timestamp:hour", "baselines": "Pop"}, "IAK")
    assert settings["domain"] == ["age:25/35,timestamp:hour"] and settings["baselines"] == ["Pop"]
    with pytest.raises(ConfigError, match="unknown RecBole model 'Pop,BPR'"):
        settings_of(None, {"baselines": "Pop,BPR"})


def test_numbers_typed_as_text_in_a_dict_are_refused():
    with pytest.raises(ConfigError, match="seed: got '5', expected a whole number"):
        settings_of(None, {"seed": "5"})


# names


def test_no_model_of_ours_is_named_in_config_and_cli(checkout):
    names = re.compile("|".join(rf"\b{path.stem}\b" for path in (checkout / "properties" / "model").glob("*.yaml")))
    for room in ("config", "cli"):
        for path in (checkout / "recbole_recfound" / room).glob("*.py"):
            assert not names.search(path.read_text()), path


def test_options_of_a_chosen_entry_and_of_each_task():
    given = {
        "scheduler_args": {"tau": "x", "tua": 1},
        "task_args": {"SR": {"form": "x"}, "XX": {}, "I2I": {"window": 0, "y": 1}},
    }
    with pytest.raises(ConfigError) as caught:
        settings_of(None, given, "RecFound")
    text = str(caught.value)
    for message in (
        "scheduler_args: tau: got 'x', expected a number",
        "scheduler_args: unknown option tua; known: history, warmup, tau",
        "task_args: unknown task 'XX'",
        "task_args: SR: form: got 'x'",
        "task_args: I2I: unknown option y",
        "task_args: I2I: window: got 0",
    ):
        assert message in text, text
    swapped = settings_of(None, {"scheduler": "uniform", "scheduler_args": {"tau": 1}}, "RecFound")
    assert swapped["scheduler_args"] == {"tau": 1}, "options of another scheduler are ignored"


def test_options_of_every_task_and_of_a_class_and_the_entry_beside_it():
    given = {
        "task_args": {"*": {"max_examples": 0, "form": "title", "oops": 1}},
        "merge_method": "slerp",
        "merge_args": {"t": 2.5, "last": 1, "tt": 1},
    }
    with pytest.raises(ConfigError) as caught:
        settings_of(None, given, "RecFound")
    text = str(caught.value)
    for message in (
        "task_args: *: max_examples: got 0",
        "task_args: *: unknown option oops",
        "merge_args: last: got 1",
        "merge_args: unknown option tt",
    ):
        assert message in text, text
    assert "form" not in text and "merge_args: t:" not in text
    assert settings_of(None, {"merge_args": {"t": 0.2}}, "RecFound")["merge_args"] == {"t": 0.2}


def test_a_model_from_outside_has_keys_in_its_own_file(write, monkeypatch, tiny_path):
    from recbole.model.general_recommender import Pop

    monkeypatch.setattr("recbole_recfound.config.models.ALSO_KNOWN", {})
    for module in ("known", "settings"):
        monkeypatch.setattr(f"recbole_recfound.config.{module}.ALSO_KNOWN", models.ALSO_KNOWN)
    properties = write("toy_size: 3  # (int; >= 1) Size of the toy.\ntoy_args: {a: 1}  # (dict) Options.\n", "Toy.yaml")
    known.add_model("Toy", Pop, properties)
    try:
        config = Config("Toy", "tiny", config_dict={"data_path": str(tiny_path), "toy_args": {"b": 2}})
        assert config["toy_size"] == 3 and config["toy_args"] == {"a": 1, "b": 2} and config.model_class is Pop
        with pytest.raises(ConfigError, match="toy_size: got 0, expected a whole number, at least 1"):
            Config("Toy", "tiny", config_dict={"toy_size": 0})
        assert settings_of(None, {"toy_size": 2}, "Pop").notes == ["toy_size: not read by Pop, only by Toy"]
        with pytest.raises(ConfigError, match="n_layers: a setting of .*, not read by Toy"):
            settings_of(None, {"n_layers": 2}, "Toy")
    finally:
        for cached in (known.our_lines, known.known_rules):
            cached.cache_clear()
