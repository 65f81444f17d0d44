"""The kernel bank against its loop, and what must hold of it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_recfound.model.kernel import (
    IAKKernelBank,
    default_sizes,
    each_row,
    gaussian_kl,
    group_rows,
    kernel_parameters,
    sizes_within,
)
from recbole_recfound.model.kernel import bank as room
from tests.reference.kernel_loop import loop


def bank_of(domains=5, d=12, m=6, r=4, seed=0, **options) -> IAKKernelBank:
    """A bank in float64 whose weights are all away from zero and differ between domains."""
    torch.manual_seed(seed)
    bank = IAKKernelBank(domains, d, m, r, **options).double()
    with torch.no_grad():
        for weight in bank.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return bank


def batch_of(rows=40, domains=5, d=12, seed=1):
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(rows, d, generator=generator, dtype=torch.float64)
    return h.requires_grad_(), torch.randint(-1, domains, (rows,), generator=generator)


@pytest.mark.parametrize("block", [None, 1, 2, 7, 64], ids=lambda block: f"block={block}")
@pytest.mark.parametrize("combine", ["residual", "replace", "gated"])
@pytest.mark.parametrize("stochastic", [True, False])
def test_values_and_gradients_equal_the_loop(block, combine, stochastic):
    bank = bank_of(combine=combine, stochastic=stochastic, learned_prior=stochastic)
    bank.enabled[3] = False
    bank.train()
    h, domain = batch_of()
    torch.manual_seed(7)
    noise = torch.randn(len(h), bank.code_size, dtype=torch.float64)
    torch.manual_seed(7)
    ours = bank.run(h, domain, block)
    theirs, kl = loop(bank, h, domain, noise if stochastic else None)
    torch.testing.assert_close(ours.hidden, theirs)
    torch.testing.assert_close(ours.kl, kl)
    gradients = []
    for hidden, divergence in ((ours.hidden, ours.kl), (theirs, kl)):
        wanted = [h, *bank.parameters()]
        loss = (hidden * torch.arange(1.0, 13.0)).sum() + 0.1 * divergence.sum()
        gradients.append(torch.autograd.grad(loss, wanted, allow_unused=True))
    for name, mine, reference in zip(["h", *dict(bank.named_parameters())], *gradients, strict=True):
        if mine is None or reference is None:
            other = reference if mine is None else mine
            assert other is None or not other.any(), name
        else:
            torch.testing.assert_close(mine, reference, msg=name)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-1, 6), min_size=1, max_size=50), st.sampled_from([None, 1, 3, 16]))
def test_blocks_hold_every_row_with_a_domain_once(domain, size):
    domain = torch.tensor(domain)
    blocks = group_rows(domain, 7, size)
    assert sorted(blocks.rows.tolist()) == torch.nonzero(domain >= 0).squeeze(1).tolist()
    assert len(blocks.slots.unique()) == len(blocks.slots)
    assert torch.equal(blocks.domain[blocks.slots // blocks.size], domain[blocks.rows])
    present = len(domain[domain >= 0].unique())
    assert len(blocks.domain) * blocks.size <= len(blocks.rows) + present * (blocks.size - 1)
    values = torch.randn(len(domain), 3)
    assert torch.equal(blocks.join(blocks.split(values), values), values)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-1, 6), min_size=1, max_size=20))
def test_rows_by_themselves_keep_their_places(domain):
    domain = torch.tensor(domain)
    layout, values = each_row(domain), torch.randn(len(domain), 3)
    assert torch.equal(layout.domain[domain >= 0], domain[domain >= 0])
    kept = layout.join(layout.split(values) + 1, values)
    assert torch.equal(kept, torch.where(domain.unsqueeze(1) >= 0, values + 1, values))


@pytest.mark.parametrize("block", [None, 1])
def test_what_a_row_without_a_domain_holds_reaches_no_kernel(block):
    bank, (h, domain) = bank_of().train(), batch_of()
    with torch.no_grad():
        h[domain < 0] = torch.inf
    done = bank.run(h, domain, block)
    (done.hidden[domain >= 0].square().sum() + done.kl.sum()).backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in bank.parameters())


def test_a_gpu_lays_small_batches_out_row_by_row(monkeypatch):
    bank, (h, domain) = bank_of(), batch_of()
    expected = bank.eval()(h, domain)
    monkeypatch.setattr(room, "is_gpu", lambda device: True)
    monkeypatch.setattr(room, "group_rows", None)
    torch.testing.assert_close(bank(h, domain), expected)
    monkeypatch.setattr(room, "GATHERED", 10)
    with pytest.raises(TypeError):
        bank(h, domain)


@pytest.mark.parametrize("stochastic", [True, False])
def test_residual_starts_as_the_identity(stochastic):
    bank = IAKKernelBank(4, 8, 4, 4, stochastic=stochastic)
    h, domain = torch.randn(30, 8), torch.randint(-1, 4, (30,))
    for mode in (True, False):
        assert torch.equal(bank.train(mode)(h, domain), h)


@pytest.mark.parametrize("combine", ["residual", "replace", "gated"])
def test_without_a_domain_h_comes_back_bit_for_bit(combine):
    bank = bank_of(combine=combine).float()
    h = torch.randn(20, 12)
    assert torch.equal(bank(h, torch.full((20,), -1)), h)
    mixed = torch.arange(20) % 6 - 1
    bank.enabled[2] = False
    off = (mixed < 0) | (mixed == 2)
    adapted = bank(h, mixed)
    assert torch.equal(adapted[off], h[off])
    assert (adapted[~off] != h[~off]).any(1).all()
    assert bank(h[:0], mixed[:0]).shape == (0, 12)


def test_evaluation_is_deterministic_and_training_is_not():
    bank = bank_of()
    h, domain = batch_of()
    assert torch.equal(bank.eval()(h, domain), bank(h, domain))
    assert torch.equal(bank(h, domain), bank.run(h, domain).hidden), "serving skips only what it does not need"
    known = domain >= 0
    assert not torch.equal(bank.train()(h, domain)[known], bank(h, domain)[known])
    still = bank_of(stochastic=False).train()
    assert torch.equal(still(h, domain), still(h, domain))
    assert not still.run(h, domain).kl.any() and not hasattr(still, "logvar_weight")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=16, max_size=16), st.integers(0, 1000))
def test_kl_is_never_negative_and_equals_torchs(values, seed):
    mean, logvar, prior_mean, prior_logvar = torch.tensor(values, dtype=torch.float64).view(4, 4)
    ours = gaussian_kl(mean, logvar, prior_mean, prior_logvar)
    normal = torch.distributions.Normal
    theirs = torch.distributions.kl_divergence(
        normal(mean, (logvar / 2).exp()), normal(prior_mean, (prior_logvar / 2).exp())
    )
    assert ours >= -1e-9
    torch.testing.assert_close(ours, theirs.sum())
    assert gaussian_kl(mean, logvar, mean, logvar).abs() < 1e-12


def test_auxiliary_head_reads_the_code_alone():
    bank = bank_of(aux_size=3).eval()
    h, domain = batch_of()
    done = bank.run(h, domain)
    known = domain >= 0
    expected = (
        torch.einsum("br,bra->ba", done.code[known], bank.aux_weight[domain[known]]) + bank.aux_bias[domain[known]]
    )
    torch.testing.assert_close(done.aux[known], expected)
    assert not done.aux[~known].any()


def test_domains_start_alike_and_their_mean_is_a_kernel():
    bank = IAKKernelBank(4, 8, 4, 4, "gated")
    assert all(torch.equal(weight, weight[:1].expand_as(weight)) for weight in bank.parameters())
    other = bank_of(4, 8, 4, 4)
    other.set_mean_of(torch.tensor([0, 2]), torch.tensor([1, 3]))
    for weight in other.parameters():
        torch.testing.assert_close(weight[1], (weight[0] + weight[2]) / 2)
        assert torch.equal(weight[1], weight[3])


@pytest.mark.parametrize("combine", ["residual", "gated"])
@pytest.mark.parametrize("aux", [0, 5])
def test_number_of_parameters(combine, aux):
    bank = IAKKernelBank(3, 16, 8, 4, combine, aux_size=aux)
    assert bank.trained_per_domain() == kernel_parameters(16, 8, 4, aux, combine)
    assert sum(weight.numel() for weight in bank.parameters()) == 3 * bank.trained_per_domain()
    phases = bank.group_of("encoder") + bank.group_of("decoder")
    assert {id(weight) for weight in phases} == {id(weight) for weight in bank.parameters()}


@given(st.integers(4, 256), st.integers(50, 50_000))
def test_a_budget_is_kept_and_used(hidden, limit):
    found = sizes_within(limit, hidden, 1)
    if found is None:
        assert kernel_parameters(hidden, 1, 1, 1) > limit
        return
    m, r = found
    assert kernel_parameters(hidden, m, r, 1) <= limit
    if m < default_sizes(hidden)[0]:
        assert kernel_parameters(hidden, m + 1, max(1, (m + 1) // 4), 1) > limit


def test_default_sizes():
    assert default_sizes(128) == (64, 16) and default_sizes(64) == (32, 8) and default_sizes(16) == (8, 4)


def test_unknown_ways_to_combine_are_refused():
    with pytest.raises(ValueError, match="combine is 'sum'"):
        IAKKernelBank(2, 4, 2, 2, "sum")
