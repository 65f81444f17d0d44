"""One Adam per domain, in stacked tensors."""

import torch

from recbole_recfound.trainer.domain_adam import DomainAdam


def test_equals_one_adam_per_domain_on_its_own_loss():
    torch.manual_seed(0)
    start = torch.randn(3, 4, 2, dtype=torch.float64)
    stacked = torch.nn.Parameter(start.clone())
    factors = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    ours = DomainAdam([stacked], 0.1, factors)
    alone = [torch.nn.Parameter(matrix.clone()) for matrix in start]
    theirs = [torch.optim.Adam([weight], lr=0.1 * factor.item()) for weight, factor in zip(alone, factors, strict=True)]
    for step in range(12):
        rows = torch.randint(0, 3, (10,)) if step % 3 else torch.zeros(10, dtype=torch.long)
        x, y = torch.randn(10, 4, dtype=torch.float64), torch.randn(10, 2, dtype=torch.float64)
        loss = (torch.bmm(x.unsqueeze(1), stacked[rows]).squeeze(1) - y).square().mean()
        stacked.grad = None
        loss.backward()
        counts = torch.bincount(rows, minlength=3)
        domains = torch.nonzero(counts).squeeze(1)
        before = stacked.detach().clone()
        ours.step(domains, counts[domains].double() / 10)
        for number in range(3):
            own = rows == number
            if own.any():
                theirs[number].zero_grad()
                (x[own] @ alone[number] - y[own]).square().mean().backward()
                theirs[number].step()
            else:
                assert torch.equal(stacked[number], before[number]), "a domain without rows is bit-equal"
            torch.testing.assert_close(stacked[number], alone[number])


def test_plain_adam_moves_a_domain_without_rows():
    """Why there is an Adam of our own."""
    weight = torch.nn.Parameter(torch.ones(2, 1))
    adam = torch.optim.Adam([weight], lr=0.1)
    for rows in ([0, 1], [0]):
        adam.zero_grad()
        weight[rows].sum().backward()
        before = weight.detach().clone()
        adam.step()
    assert weight[1] != before[1]
