"""GradCache: the gradients of one large batch, in chunks."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from recbole_recfound.model.gradient_cache import as_random, random_state, represent
from tests.small_model import build_small, perturb

HOST = torch.get_default_device()


def _loss(queries, items):
    return F.cross_entropy(
        F.normalize(queries, dim=-1) @ F.normalize(items, dim=-1).T / 0.1, torch.arange(len(queries))
    )


def _gradients(encoder, data, chunk, steps=1):
    encoder.zero_grad()
    for _ in range(steps):
        torch.manual_seed(5)
        queries = represent(lambda rows: encoder(data[0][rows]), len(data[0]), chunk, HOST)
        items = represent(lambda rows: encoder(data[1][rows]), len(data[1]), chunk, HOST)
        _loss(queries, items).backward()
    return [weight.grad.clone() for weight in encoder.parameters()]


@pytest.mark.parametrize("chunk", [1, 2, 3, 6, 7])
def test_equals_one_large_batch(chunk):
    torch.manual_seed(0)
    encoder, data = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)), torch.randn(2, 7, 4)
    for ours, theirs in zip(_gradients(encoder, data, chunk), _gradients(encoder, data, 0), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_gradients_add_up_over_several_batches():
    encoder, data = nn.Linear(4, 3), torch.randn(2, 6, 4)
    once, twice = _gradients(encoder, data, 2), _gradients(encoder, data, 2, steps=2)
    for single, double in zip(once, twice, strict=True):
        torch.testing.assert_close(2 * single, double)


def test_replay_repeats_the_dropout_of_the_forward():
    torch.manual_seed(0)
    encoder, data = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3)), torch.randn(2, 6, 4)
    ours = _gradients(encoder, data, 2)
    # The same chunks, each with its graph: dropout draws its masks chunk by chunk in both.
    encoder.zero_grad()
    torch.manual_seed(5)
    queries, items = (torch.cat([encoder(part[start : start + 2]) for start in (0, 2, 4)]) for part in data)
    _loss(queries, items).backward()
    for mine, weight in zip(ours, encoder.parameters(), strict=True):
        torch.testing.assert_close(mine, weight.grad)


def test_backward_leaves_the_random_state_alone():
    encoder, data = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)), torch.randn(6, 4)
    representations = represent(lambda rows: encoder(data[rows]), 6, 2, HOST)
    before = torch.get_rng_state()
    representations.sum().backward()
    assert torch.equal(before, torch.get_rng_state())


def test_replay_runs_under_the_autocast_of_the_forward():
    encoder, data, seen = nn.Linear(4, 3), torch.randn(4, 4), []

    def encode(rows):
        output = encoder(data[rows])
        seen.append(output.dtype)
        return output.float()

    with torch.autocast(HOST.type, dtype=torch.bfloat16):
        representations = represent(encode, 4, 2, HOST)
    representations.sum().backward()
    assert seen == [torch.bfloat16] * 4


def test_what_is_frozen_is_not_replayed():
    encoder, data = nn.Linear(4, 3).requires_grad_(False), torch.randn(4, 4)
    representations = represent(lambda rows: encoder(data[rows]), 4, 2, HOST)
    representations.sum().backward()
    assert encoder.weight.grad is None


def test_as_random_goes_on_as_if_nothing_had_run():
    state, before = random_state(HOST), torch.get_rng_state()
    torch.rand(3)
    moved = torch.get_rng_state()
    with as_random(state, HOST):
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(100)
    assert torch.equal(torch.get_rng_state(), moved)


def _model_gradients(settings, chunk):
    small = build_small(settings, batch_args={"cache_chunk": chunk}, dropout=0.0)
    perturb(small.model)
    small.model.refresh_items()
    small.model.train()
    batch = small.loader.collate({name: [(i, i) for i in range(7)] for name in ("U2I", "I2I", "Q2I", "SR")})
    sum(small.model.calculate_loss(batch)).backward()
    return {name: weight.grad for name, weight in small.model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("changes", [{}, {"history": "prompt"}, {"gradient_checkpointing": True}], ids=str)
def test_the_model_gives_the_same_gradients_in_chunks(small_run, changes):
    whole, chunks = (_model_gradients(small_run | changes, chunk) for chunk in (0, 3))
    assert whole.keys() == chunks.keys() and any("router" in name for name in whole)
    for name, gradient in whole.items():
        assert (chunks[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-7, name
