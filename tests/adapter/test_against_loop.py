"""The adapted backbone against the same backbone with a loop over experts in every layer."""

import pytest
import torch

from recbole_recfound.adapter import routing
from recbole_recfound.adapter.tmole import TMoLELayer
from tests.adapter.models import relative_error, tiny_model, tokens
from tests.reference.expert_loop import looped, set_tasks, wide_gradients

EMBEDDING, GENERATIVE, MIXED, ONE, SPARE = [0, 1, 2, 0], [3, 12, 5, 3], [0, 3, 13, 7], [4] * 4, [13] * 4


def loss_of(output):
    """A random linear functional: unlike a mean of squares it does not cancel in the routers' small gradients."""
    generator = torch.Generator().manual_seed(9)
    return (output * torch.randn(output.shape, generator=generator)).sum()


def losses(model, loop, batches, seed=0):
    """One forward per (tasks, ids), then one backward over their sum, in both."""
    torch.manual_seed(seed)
    wide_outputs, loop_outputs = [], []
    for tasks, ids in batches:
        wide_outputs.append(model(input_ids=ids, tmole_tasks=tasks).logits)
    torch.manual_seed(seed)
    for tasks, ids in batches:
        set_tasks(loop, tasks)
        loop_outputs.append(loop(input_ids=ids).logits)
    for outputs in (wide_outputs, loop_outputs):
        sum(loss_of(output) for output in outputs).backward()
    return wide_outputs, loop_outputs


def check_gradients_equal(model, loop):
    """All gradients of one kind (A, B, router, table) together: a single router's can be next to nothing."""
    pairs = {}
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, TMoLELayer):
            router = module.tmole_router["default"]
            found = {
                "A": module.tmole_lora_A["default"].grad,
                "B": module.tmole_lora_B["default"].grad,
                "weight": router.weight.grad,
                "bias": router.bias.grad,
                "table": module.task_table["default"].weight.grad,
            }
            expected = wide_gradients(loop, name)
            for part, gradient in found.items():
                pairs.setdefault(part, []).append((gradient.flatten(), expected[part].flatten()))
    for part, both in pairs.items():
        found, expected = (torch.cat(side) for side in zip(*both, strict=True))
        assert relative_error(found, expected) < 1e-5, part


@pytest.mark.parametrize("tasks", [EMBEDDING, GENERATIVE, MIXED, ONE, SPARE], ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_outputs_and_gradients(tasks, dropout):
    model = tiny_model(lora_dropout=dropout).train()
    loop = looped(model)
    wide, slow = losses(model, loop, [(tasks, tokens())])
    assert relative_error(wide[0], slow[0]) < 1e-5
    check_gradients_equal(model, loop)


@pytest.mark.parametrize("kwargs", [None, {"use_reentrant": False}, {"use_reentrant": True}], ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_two_forwards_before_one_backward_under_checkpointing(kwargs, dropout):
    model = tiny_model(lora_dropout=dropout)
    loop = looped(model).train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kwargs)
    model.train()
    batches = [(EMBEDDING, tokens()), (GENERATIVE, tokens(seed=5)), (ONE, tokens(seed=6))]
    wide, slow = losses(model, loop, batches)
    for left, right in zip(wide, slow, strict=True):
        assert relative_error(left, right) < 1e-5
    check_gradients_equal(model, loop)


def test_checkpointing_enabled_on_the_backbone_before_the_adapter():
    from recbole_recfound.adapter import build_adapter
    from tests.adapter.models import SMALL, tiny_backbone

    backbone = tiny_backbone()
    backbone.gradient_checkpointing_enable()
    model = build_adapter(backbone, lora_dropout=0.0, **SMALL).train()
    loop = looped(model)
    for module in loop.modules():
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = False
    losses(model, loop, [(MIXED, tokens()), (EMBEDDING, tokens(seed=5))])
    check_gradients_equal(model, loop)


def test_backward_inside_another_route_keeps_the_first():
    model = tiny_model(lora_dropout=0.0)
    loop = looped(model).train()
    model.gradient_checkpointing_enable()
    model.train()
    ids = tokens()
    with routing(model, EMBEDDING):
        loss = loss_of(model(input_ids=ids).logits)
    with routing(model, GENERATIVE):
        loss.backward()
    set_tasks(loop, EMBEDDING)
    loss_of(loop(input_ids=ids).logits).backward()
    check_gradients_equal(model, loop)


def test_own_checkpoint_with_the_public_context_fn():
    from torch.utils.checkpoint import checkpoint

    from recbole_recfound.adapter import checkpoint_context_fn

    model = tiny_model(lora_dropout=0.0).train()
    loop = looped(model)
    losses_found = []
    for tasks, ids in [(EMBEDDING, tokens()), (GENERATIVE, tokens(seed=5))]:
        with routing(model, tasks):
            hidden = checkpoint(
                model.get_base_model().model,
                ids,
                use_cache=False,
                use_reentrant=False,
                context_fn=checkpoint_context_fn,
            ).last_hidden_state
        losses_found.append(loss_of(hidden))
        set_tasks(loop, tasks)
        loss_of(loop.model(ids).last_hidden_state).backward()
    sum(losses_found).backward()
    check_gradients_equal(model, loop)


def test_part_of_the_backbone_outside_peft():
    from recbole_recfound.backbone.depth import decode, first_layers

    model = tiny_model()
    loop = looped(model)
    set_tasks(loop, MIXED)
    inputs = torch.randn(4, 5, 32, generator=torch.Generator().manual_seed(0))
    with routing(model, MIXED):
        found = decode(first_layers(model.get_base_model().model, 1), inputs)
    assert relative_error(found, decode(first_layers(loop.model, 1), inputs)) < 1e-5


def test_one_layer_called_with_two_dimensional_input():
    model = tiny_model()
    name = "model.layers.0.self_attn.q_proj"
    loop = looped(model)
    set_tasks(loop, MIXED)
    x = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    with routing(model, MIXED):
        found = model.get_base_model().get_submodule(name)(x)
    assert relative_error(found, loop.get_submodule(name)(x)) < 1e-5
