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
from recbole_recfound.model.losses import next_item_loss, sampled_candidates
from tests.small_model import build_small, perturb


@register_history("mean of soft tokens")
class MeanOfSoftTokens(SequenceHistory):
    """A stranger's mode: the running mean of the soft tokens, projected as the user tower does."""

    soft_tokens = True

    def collate(self, tasks, rows):
        return self.source.sequences(tasks, rows)

    def states(self, model, soft_tokens, part, places):
        return self._mean(model, soft_tokens, places)[part.targets > 0]

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


@pytest.mark.parametrize("mode", ["item", "positions", "late", "mean of soft tokens"])
def test_of_a_large_catalogue_the_needed_items_alone_are_computed(small_run, mode):
    """Values and gradients equal those of a table of all items under the same candidates."""
    settings = small_run | {"history": mode, "tasks": ["U2I"], "dropout": 0, "adapter": "lora"}
    sizes = {"loss_args": {"full_softmax_items": 10, "sampled_items": 20}, "item_args": {"text_alone": 0.0}}
    small = build_small(settings, **sizes)
    model, part = small.model.train(), small.loader.next_batch().parts[0]
    perturb(model)
    model.refresh_items()
    asked = []
    hook = model.item_table.register_forward_hook(lambda table, given, found: asked.append(len(found[1])))
    torch.manual_seed(5)
    ours = model.history.losses(model, part)
    hook.remove()
    assert asked[0] < model.n_items
    torch.manual_seed(5)
    candidates = sampled_candidates(part.targets, model.n_items, 20)
    soft_tokens, vectors = model.item_table(part.rows)
    states = model.history.states(model, soft_tokens, part, part.items)
    users = model.recent_items(states, vectors, part.items, part.targets > 0)
    past, share = part.items if model.masks_history else None, model.parts.targets_per_row
    expected = next_item_loss(
        users, part.targets, vectors[candidates], model.temperature, candidates, past, share, model.item_table.held_out
    )
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    found = [torch.autograd.grad(loss.sum(), weights, allow_unused=True) for loss in (ours, expected)]
    assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in found[0])
    for mine, theirs in zip(*found, strict=True):
        if theirs is not None:
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
