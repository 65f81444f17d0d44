"""Labels of rows are 0 and 1, whichever model learns them and whichever metric compares them."""

import pytest

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import build_splits, check_labels
from recbole_recfound.errors import ConfigError
from recbole_recfound.system.recbole import RecBoleSystem

HEADER = ["user_id:token", "item_id:token", "timestamp:float", "label:float"]
HEADER_NAMES = ["user_id", "item_id", "timestamp"]
LABELED = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO", "group_by": "none", "mode": "labeled"}
CLICKS = {"metrics": ["AUC", "LogLoss"], "valid_metric": "AUC", "eval_args": LABELED}


@pytest.fixture
def labelled(write_dataset):
    """Return a function: the splits of a model on rows with the given labels in turn."""

    def build(labels, model, **settings):
        rows = [
            [f"u{user}", f"i{(user + 2 * step) % 13}", 60 * step, labels[(user * step + step) % len(labels)]]
            for user in range(12)
            for step in range(6)
        ]
        path = str(write_dataset("shop", inter=[HEADER, *rows]))
        known = {"data_path": path, "show_progress": False, "use_gpu": False, **settings}
        return build_splits(Config(model, "shop", config_dict=known))

    return build


@pytest.mark.parametrize("model", ["DeepFM", "M6Rec"])
@pytest.mark.parametrize(
    ("labels", "named"),
    [([-1, 1], "such as -1;"), ([1, 2, 3, 4, 5], "such as 2, 3, 4, 5;"), ([0, 0.5, 1], "such as 0.5;")],
)
def test_labels_of_a_click_model(labelled, model, labels, named):
    with pytest.raises(
        ConfigError, match=rf"LABEL_FIELD: got label .*{named} make labels.* threshold: {{label: NUMBER}}"
    ):
        check_labels(labelled(labels, model, **CLICKS))


def test_labels_that_a_general_model_learns(labelled):
    with pytest.raises(ConfigError, match="LABEL_FIELD: got label"):
        check_labels(labelled([-1, 1], "NeuMF", train_neg_sample_args=None))


@pytest.mark.parametrize(("model", "why"), [("DeepFM", "predicts clicks"), ("BPR", "is scored by labels .eval_args.*")])
def test_data_without_labels(labelled, model, why):
    splits = labelled([0, 1], model, load_col={"inter": HEADER_NAMES}, **CLICKS)
    with pytest.raises(ConfigError, match=f"threshold: {model} {why}, but there is no column 'label'; make one"):
        RecBoleSystem.open_data(splits.config)


@pytest.mark.parametrize("settings", [{}, {"eval_args": {**LABELED, "mode": {"valid": "labeled", "test": "uni5"}}}])
def test_labels_by_which_a_general_model_is_compared(labelled, settings):
    with pytest.raises(ConfigError, match="LABEL_FIELD: got label"):
        check_labels(labelled([-1, 1], "BPR", **{**CLICKS, **settings}))


ERRORS = {"eval_args": LABELED, "metrics": ["RMSE", "MAE"], "valid_metric": "RMSE"}


def test_ratings_of_which_the_error_is_measured(labelled):
    """RecBole's models predict numbers from 0 to 1; M6Rec predicts clicks."""
    check_labels(labelled([0, 0.25, 0.5, 1], "DeepFM", **ERRORS))
    check_labels(labelled([0, 0.25, 0.5, 1], "DeepFM", **ERRORS | {"metrics": ["LogLoss"], "valid_metric": "LogLoss"}))
    with pytest.raises(ConfigError, match="labels other than 0 to 1 in .* such as 2, 3;"):
        check_labels(labelled([1, 2, 3], "DeepFM", **ERRORS))
    with pytest.raises(ConfigError, match="labels other than 0 and 1 in .* such as 0.5;"):
        check_labels(labelled([0, 0.5, 1], "M6Rec", **ERRORS))


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("DeepFM", {**CLICKS, "threshold": {"label": 3}}),
        ("BPR", {}),
        ("BPR", ERRORS),
    ],
)
def test_numbers_that_nothing_reads_as_labels(labelled, model, settings):
    check_labels(labelled([1, 2, 3, 4, 5], model, **settings))
