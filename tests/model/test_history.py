"""History modes: one interface, registered where they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import recbole_recfound
from recbole_recfound import load_recfound, run_recfound
from recbole_recfound.config.configurator import Config
from recbole_recfound.config.history import history_name
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.history import HISTORIES, History, SequenceHistory, history_of, register_history


@register_history("mean of soft tokens")
class MeanOfSoftTokens(SequenceHistory):
    """A stranger's mode: the running mean of the soft tokens, projected as the user tower does."""

    soft_tokens = True

    def collate(self, tasks, rows):
        return self.source.sequences(tasks, rows)

    def states(self, model, soft_tokens, part):
        return self._mean(model, soft_tokens, part.items)[part.targets > 0]

    def last_states(self, model, items, lengths):
        rows = torch.arange(len(items))
        return self._mean(model, model.table()[0], items)[rows, (lengths - 1).clamp(min=0)]

    def _mean(self, model, soft_tokens, items):
        counts = torch.arange(1, items.shape[1] + 1).view(1, -1, 1)
        return F.normalize(model.user_tower.project(soft_tokens[items].cumsum(1) / counts), dim=-1)


def test_a_strangers_mode_is_trained_evaluated_and_served(small_run):
    settings = small_run | {"history": "mean of soft tokens", "adapter": "lora", "tasks": ["U2I", "I2I"]}
    result = run_recfound("RecFound", "tiny", config_dict=settings)
    loaded = load_recfound(result["run_dir"])
    model, history = loaded.model, list(loaded.item_ids)[:3]
    assert model.history.name == "mean of soft tokens"
    # The ranking of the run folder is that of the mode's own formula.
    rows = torch.tensor([loaded.item_ids[token] for token in history])
    soft_tokens, items = model.table()
    user = F.normalize(model.user_tower.project(soft_tokens[rows].mean(0)), dim=-1)
    scores = items @ model.recent_items(user[None], items, rows[None], torch.tensor([[False, False, True]]))[0]
    scores[rows] = scores[0] = -torch.inf
    tokens = {number: token for token, number in loaded.item_ids.items()}
    expected = [tokens[number] for number in scores.topk(5).indices.tolist()]
    assert [token for token, *_ in loaded.recommend(history, k=5)] == expected


def test_modes_are_named_by_the_settings(small_run):
    for name, changes in (
        ("item", {"history": "item"}),
        ("positions", {"history": "positions"}),
        ("prompt", {"history": "prompt"}),
        ("late", {"history": "late"}),
        ("item", {"history": "auto"}),
    ):
        config = Config("RecFound", "tiny", config_dict=small_run | changes)
        assert history_name(config) == history_of(config).name == name
    with pytest.raises(ConfigError, match="history: got 'items'"):
        Config("RecFound", "tiny", config_dict=small_run | {"history": "items"})


def test_depths_are_those_of_the_mode_or_of_the_settings():
    item, positions, prompt, _ = modes = [HISTORIES[name] for name in ("item", "positions", "prompt", "late")]
    assert [mode.user_depth(30, None) for mode in modes] == [2, 30, 30, 3]
    assert [mode.user_depth(30, 4) for mode in modes] == [4, 4, 4, 4]
    assert [mode.user_depth(3, None) for mode in modes] == [2, 3, 3, 2], "a layer is left below"
    assert [mode.text_depth(30, None, 5) for mode in modes] == [8, 30, 5, 8]
    assert [mode.segments for mode in modes] == [False, False, False, True] and not positions.soft_tokens
    assert item.text_depth(3, 12, 2) == 3 and item.user_depth(30, 0) == 0
    assert issubclass(prompt, History) and not prompt.sequences and not prompt.uses_item_table


def test_no_other_file_asks_for_a_mode_by_name():
    root = Path(recbole_recfound.__file__).parent
    asks = re.compile(r"""(mode|history\.name)["')\]]*\s*(==|!=|in|not in)\s*[("'\[A-Z]""")
    # The mode of RecBole's evaluation and that of IAK's batches are other things.
    others = ("sampler/domain_batches.py", "evaluation/report/table.py")
    allowed = {root / "config" / "history.py", *(root / name for name in others)}
    files = [path for path in root.rglob("*.py") if path not in allowed and "history" not in path.parent.name]
    assert not [path for path in files for line in path.read_text().splitlines() if asks.search(line)]
