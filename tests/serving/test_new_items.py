"""Items that are added to a finished run."""

import pytest
import torch

from recbole_recfound import load_recfound, run_recfound
from recbole_recfound.errors import ConfigError


@pytest.mark.parametrize("mode", ["item", "positions", "prompt", "late"])
def test_new_items_are_recommended_at_once(small_run, mode):
    loaded = load_recfound(run_recfound("RecFound", "tiny", config_dict=small_run | {"history": mode})["run_dir"])
    history = list(loaded.item_ids)[:3]
    before = loaded.recommend(history, k=10_000)
    title = loaded.catalogue.title
    loaded.add_items([{"item_id": "new", title: "A Grand Day Out", "unknown": 1}, {"item_id": "newer", title: "Babe"}])
    after = loaded.recommend(history, k=10_000)
    old = [row for row in after if row[0] not in ("new", "newer")]
    assert [row[:2] for row in old] == [row[:2] for row in before] and len(after) == len(before) + 2
    assert [score for *_, score in old] == pytest.approx([score for *_, score in before], abs=1e-6)
    assert {text for token, text, _ in after if token == "new"} == {"A Grand Day Out"}
    vectors = loaded.embed_items(["A Grand Day Out"])
    scores = {token: score for token, _, score in after}
    assert scores["new"] == pytest.approx((loaded.embed_user(history) @ vectors.T).item(), abs=1e-5)
    assert loaded.recommend([*history, "new"], candidates=["newer"])[0][0] == "newer"
    with pytest.raises(ConfigError, match="'new' is known already"):
        loaded.add_items([{"item_id": "new"}])
    with pytest.raises(ConfigError, match="each record needs an id of its own"):
        loaded.add_items([{title: "no id"}])
    loaded.add_items([{"item_id": 0, title: "A number that is no number"}])
    assert loaded.tokens[-1] == "0"


def test_a_new_item_in_a_history_is_read_as_its_text(small_run):
    """The twin of a known item: only the text of an item enters the mode `late` where its vector is made of text."""
    settings = small_run | {"history": "late", "item_args": {"use_id": False, "factors": 0}}
    loaded = load_recfound(run_recfound("RecFound", "tiny", config_dict=settings)["run_dir"])
    first, second, *_ = loaded.item_ids
    fields = loaded.catalogue.values[loaded.catalogue.row_of[second]]
    loaded.add_items([{"item_id": "twin", **fields}, {"item_id": "other", loaded.catalogue.title: "A Grand Day Out"}])
    known, twin, other = loaded.embed_user([[first, second], [first, "twin"], [first, "other"]])
    torch.testing.assert_close(twin, known)
    assert not torch.allclose(other, known, atol=1e-3)


def test_text_vectors_of_known_items_are_theirs_where_text_is_all(small_run):
    run = run_recfound(
        "RecFound", "tiny", config_dict=small_run | {"item_args": {"use_id": False, "factors": 0}, "max_steps": 4}
    )
    loaded = load_recfound(run["run_dir"])
    indices = loaded.saved.items.item_ids.index_of_id[1:6]
    texts = [loaded.catalogue.sentence_of(index) for index in indices]
    torch.testing.assert_close(loaded.embed_items(texts), loaded.model.item_vectors()[1:6], atol=2e-4, rtol=0)
