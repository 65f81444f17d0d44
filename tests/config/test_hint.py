"""The grammar of hints, and the hints of all our YAML files."""

import pytest

from recbole_recfound.config.hint import parse_hint
from recbole_recfound.config.known import known_rules, our_files, our_lines, recbole_lines, rule_of_hint
from recbole_recfound.config.option_classes import option_classes
from recbole_recfound.config.property_files import Setting, read_settings
from recbole_recfound.config.schema import RULES, Rule, problem
from recbole_recfound.config.settings import OF_EACH_MODEL, OF_RECBOLE, settings_of
from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.locations import properties_dir


@pytest.mark.parametrize(
    ("hint", "allowed", "rejected"),
    [
        ("int", [0, -3], [1.5, True, "1", None, [1]]),
        ("int or None; >= 0", [0, None], [-1, "x"]),
        ("float; > 0, <= 1", [0.5, 1, 1e-9], [0, 1.1, True, float("nan")]),
        ("float; >= 1e-3, < 2", [1e-3, 1.9], [2, 0]),
        ("bool", [True, False], [0, 1, "True"]),
        ("str", ["", "a, b", "1e-3"], [1, None, True]),
        ("str or None", ["a", None], [1]),
        ("str; auto, bf16, float32", ["auto", "float32"], ["bf", "", None]),
        ("str; any scheduler", ["s2sched", "uniform"], ["none", "s3"]),
        ("str; any merge method, none", ["none", "ties", "dare_ties"], ["mean"]),
        ("str; none, any sparsification", ["none", "random"], ["top"]),
        ("str; any RecBole model", ["BPR", "Pop"], ["BRP"]),
        ("list of str", [[], ["a"]], [[1], "a", {"a": 1}]),
        ("list of str; any task", [["SR"], []], [["SR", "XX"]]),
        ("list of int or int; >= 1", [1, [1, 2]], [0, [0], ["a"], [[1]], [True]]),
        ("list", [[1, "a"]], ["a"]),
        ("dict", [{}, {"a": 1}], [[], 1]),
        ("dict of str; any task", [{"SR": "x"}], [{"SR": 1}, {"XX": "x"}]),
        ("dict of dict", [{"a": {}}], [{"a": 1}]),
        ("int or dict of int; >= 0; any task", [1, {"SR": 0}], [-1, {"SR": -1}, {"XX": 1}, {"SR": "a"}]),
        ("int; >= 1, <= 64", [1, 64], [0, 65]),
    ],
)
def test_hints_say_what_is_allowed(hint, allowed, rejected):
    rule = Rule.of_hint(parse_hint(hint))
    assert [value for value in allowed if problem(rule, value)] == []
    assert [value for value in rejected if not problem(rule, value)] == []


@pytest.mark.parametrize(
    "hint",
    [
        "",
        "integer",
        "int | None",
        "None",
        "int of str",
        "list of lists",
        "int; >= ",
        "int; >= x",
        "int; at least 1",
        "str; any colour",
    ],
)
def test_malformed_hints_are_errors(hint):
    with pytest.raises(ValueError, match="hint"):
        Rule.of_hint(parse_hint(hint))


def test_hints_of_all_our_yaml_files_are_well_formed():
    for path in [*our_files(), *(properties_dir() / "dataset").glob("*.yaml")]:
        for setting in read_settings(path):
            rule = Rule.of_hint(parse_hint(setting.hint))
            assert not problem(rule, setting.value), f"{path}:{setting.line}: {setting.key}"


def test_option_classes_of_all_our_yaml_files_exist():
    options = {
        key: rule.options for key, rule in known_rules().items() if rule.options not in ("", OF_RECBOLE, OF_EACH_MODEL)
    }
    assert {"kernel_args", "iak_args"} <= set(options)
    for key, text in options.items():
        assert option_classes(text), key


def test_a_malformed_hint_names_file_and_line(tmp_path):
    line = Setting("paint", 1, tmp_path / "x.yaml", 7, "integer")
    with pytest.raises(ConfigError, match=r"x.yaml:7: paint: hint \(integer\): unknown type 'integer'"):
        rule_of_hint([line])


def test_hints_of_two_types_for_one_key_are_an_error(tmp_path):
    lines = [Setting("paint", 1, tmp_path / "x.yaml", 7, "int"), Setting("paint", 1, tmp_path / "y.yaml", 8, "float")]
    with pytest.raises(
        ConfigError, match=r"x.yaml:7: paint: types of the hint \(int\) differ from \(float\) in .*y.yaml:8"
    ):
        rule_of_hint(lines)


@pytest.mark.parametrize(
    ("model", "control", "known"),
    [
        ("RecFound", "permuted_domains", "random_body, no_adapter"),
        ("IAK", "no_body", "permuted_domains"),
    ],
)
def test_models_may_allow_different_values_of_one_key(model, control, known):
    with pytest.raises(ConfigError, match=f"control: got '{control}', expected one of {known}"):
        settings_of(None, {"control": control}, model)
    assert settings_of(None, {"control": None}, model)["control"] is None


def test_rules_in_code_are_for_recboles_keys_alone():
    assert not set(RULES) & set(our_lines())
    listed = {
        "model",
        "dataset",
        "encoding",
        "token_num_threshold",
        "xgb_early_stopping_rounds",
        "tail_ratio",
        "TIME_FIELD",
    }
    assert set(RULES) - listed <= set(recbole_lines()) | {
        "benchmark_filename",
        "rm_dup_inter",
        "additional_feat_suffix",
    }
