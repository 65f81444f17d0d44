"""TextKNN by its definition, as a baseline and alone."""

import numpy as np
import pytest
from recbole.data.interaction import Interaction
from sklearn.feature_extraction.text import TfidfVectorizer

from recbole_recfound import load_recfound, run_recfound
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.multi_task import catalogue_of
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.textknn import TextKNN


def settings(tiny_path, folder=None):
    given = {"data_path": str(tiny_path), "show_progress": False, "use_gpu": False}
    return given | ({"output_dir": str(folder)} if folder else {})


def test_scores_are_sums_of_cosines(tiny_path):
    config = Config("TextKNN", "tiny", config_dict=settings(tiny_path))
    splits = build_splits(config)
    model = TextKNN(config, splits.train_set)
    catalogue = catalogue_of(config, splits.train_set)
    tokens = splits.train_set.field2id_token[splits.train_set.iid_field][1:]
    words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\b\w+\b").fit_transform(
        [catalogue.sentence_of(catalogue.row_of[token]) for token in tokens]
    )
    cosines = (words @ words.T).toarray()
    interaction, *_ = next(iter(splits.test_data))
    found = model.full_sort_predict(interaction).view(len(interaction), -1).numpy()
    for row, user in enumerate(interaction[splits.train_set.uid_field].tolist()):
        history = splits.known_at_test.of(user)[-config["MAX_ITEM_LIST_LENGTH"] :]
        expected = cosines[history - 1].sum(0)
        np.testing.assert_allclose(found[row, 1:], expected, rtol=1e-5, atol=1e-6)
    assert (found[:, 0] == 0).all()
    user, item = splits.train_set.uid_field, splits.train_set.iid_field
    pairs = Interaction({**interaction.interaction, item: interaction[user] % 5 + 1})
    chosen = pairs[item].numpy()
    np.testing.assert_allclose(model.predict(pairs).numpy(), found[np.arange(len(found)), chosen], rtol=1e-5)
    # Without histories, as for sampled candidates, the training rows are known.
    bare = model.predict(Interaction({user: pairs[user], item: pairs[item]})).numpy()
    expected = [cosines[splits.known_at_valid.of(u) - 1, i - 1].sum() for u, i in zip(pairs[user], chosen, strict=True)]
    np.testing.assert_allclose(bare, expected, rtol=1e-5, atol=1e-6)


def test_beside_others_and_alone(tiny_path, tmp_path):
    found = run_recfound("EASE", "tiny", config_dict=settings(tiny_path, tmp_path), baselines=["TextKNN"])
    alone = run_recfound("TextKNN", "tiny", config_dict=settings(tiny_path, tmp_path))
    assert [row["model"] for row in found["comparison"]] == ["TextKNN", "EASE"]
    assert found["comparison"][0]["metrics"] == alone["test_result"]
    assert dict(load_recfound(alone["run_dir"]).evaluate().metrics) == pytest.approx(alone["test_result"])


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (None, "no text columns"),
        ([""] * 5, "no item has a text in title"),
        (["...", "!", "?", "-", "--"], "the texts have no words"),
    ],
)
def test_items_without_texts_are_refused(write_dataset, texts, words):
    rows = [[f"u{user}", f"i{(user + step) % 5}", step] for user in range(6) for step in range(4)]
    tables = {"inter": [["user_id:token", "item_id:token", "timestamp:float"], *rows]}
    if texts:
        named = [[f"i{item}", text] for item, text in enumerate(texts)]
        tables["item"] = [["item_id:token", "title:token_seq"], *named]
    path = write_dataset("bare", **tables)
    config = Config("TextKNN", "bare", config_dict={"data_path": str(path), "show_progress": False, "use_gpu": False})
    splits = build_splits(config)
    with pytest.raises(ConfigError, match=words):
        TextKNN(config, splits.train_set)
