"""Relation distillation against its formula."""

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel, Phi3Config, Phi3Model

from recbole_recfound.edge.relation import captured, has_projections, prefix_mask, relation_heads, relation_loss
from tests.reference import relations


def projections(length, widths, seed):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(length, width, generator=generator) for width in widths)


@pytest.mark.parametrize(("source", "heads"), [(3, 1), (4, 2), (7, 4), (1, 4)])
def test_equals_the_formula_with_other_widths_than_the_teachers(source, heads):
    teacher, student = projections(7, (24, 8, 8), 1), projections(7, (16, 16, 16), 2)
    expected = relations.relation_loss(
        *([each.tolist() for each in given] for given in (teacher, student)), source, heads
    )
    assert relation_loss(teacher, student, source, heads).item() == pytest.approx(expected, abs=1e-6)


def test_equal_relations_cost_nothing_and_gradients_are_finite():
    teacher = projections(6, (16, 16, 16), 1)
    assert relation_loss(teacher, teacher, 3, 4).item() == pytest.approx(0, abs=1e-7)
    student = tuple(states.requires_grad_() for states in projections(6, (16, 16, 16), 2))
    relation_loss(teacher, student, 3, 4).backward()
    assert all(states.grad.isfinite().all() and states.grad.abs().sum() > 0 for states in student)


def test_mask_of_source_and_target():
    expected = [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert prefix_mask(4, 2).int().tolist() == expected


@pytest.mark.parametrize(("widths", "heads"), [((576, 192, 192, 128), 16), ((32, 16, 16, 32), 16), ((24, 18, 32), 2)])
def test_relation_heads_divide_all_widths(widths, heads):
    assert relation_heads(widths) == heads


def test_captured_outputs_are_those_of_the_block_alone():
    attention = nn.Module()
    attention.q_proj, attention.k_proj, attention.v_proj = nn.Linear(4, 6), nn.Linear(4, 2), nn.Linear(4, 2)
    states = torch.randn(3, 4)
    with captured(attention) as found:
        expected = [attention.q_proj(states), attention.k_proj(states), attention.v_proj(states)]
    attention.q_proj(states)
    assert [len(calls) for calls in found] == [1, 1, 1]
    assert all(torch.equal(calls[0], own) for calls, own in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("config", "model", "apart"), [(LlamaConfig, LlamaModel, True), (Phi3Config, Phi3Model, False)]
)
def test_projections_that_are_one_matrix_are_not_captured(config, model, apart):
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1}
    made = model(config(vocab_size=20, num_hidden_layers=1, pad_token_id=0, **sizes))
    assert has_projections(made.layers[0].self_attn) == apart
