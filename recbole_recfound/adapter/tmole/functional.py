"""The equations of TMoLE on plain tensors.

RecFound TMoLE, for expert e with A_e [r, d_in] and B_e [d_out, r]:

    s = W_route t + b_route          one score per expert, from the task embedding t alone
    g = softmax(s over open experts)
    y = W x + scaling * sum_e g_e B_e A_e x

The experts are stored side by side, lora_A = [A_1; ...; A_N] and lora_B = [B_1 ... B_N], so that the sum over experts
is one product of rank N r with the gate in between, instead of N pairs of small products. Dropping the columns of
closed experts from both is exact.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def route(task_embedding: Tensor, weight: Tensor, bias: Tensor, open_experts: Tensor) -> Tensor:
    """Weigh the open experts for each task embedding (RecFound TMoLE).

    Scores and softmax are in float32 for any dtype of the inputs, under autocast too.

    Args:
        task_embedding: [B, D].
        weight: [N, D], the router of one layer, or [L, N, D], of several.
        bias: [N] or [L, N].
        open_experts: [B, N] bool, at least one open in every row.

    Returns:
        gate [B, N] or [B, L, N], float32: rows sum to one, exactly zero for closed experts.
    """
    with torch.autocast(task_embedding.device.type, enabled=False):
        scores = F.linear(task_embedding.float(), weight.float().flatten(0, -2), bias.float().flatten())
        scores = scores.unflatten(-1, bias.shape)
        closed = ~open_experts if bias.dim() == 1 else ~open_experts.unsqueeze(1)
        return scores.masked_fill(closed, float("-inf")).softmax(dim=-1)


def tmole_linear(x: Tensor, base_out: Tensor, lora_A: Tensor, lora_B: Tensor, rank_gate: Tensor | None) -> Tensor:
    """Add the gated experts to the output of a linear map: one wide product instead of a loop (RecFound TMoLE).

    Weights may be float32 while x and base_out are half precision: they are cast down, which is what autocast does.

    Args:
        x: [B, T, d_in] or [B, d_in], dropout already applied.
        base_out: [B, T, d_out] or [B, d_out], output of the frozen map.
        lora_A: [N * r, d_in].
        lora_B: [d_out, N * r].
        rank_gate: [B, N * r], or [1, N * r] when all rows share one task: gates times scaling, see `spread`. None: they
            are a part of lora_B.

    Returns:
        Tensor of the shape and dtype of base_out.
    """
    hidden = F.linear(x, lora_A.to(x.dtype))
    if rank_gate is not None and rank_gate.shape[0] == 1 and x.shape[:-1].numel() >= lora_B.shape[0]:
        # One task and more tokens than output features: scaling B's columns is the smaller product and spares
        # keeping a second rank-space tensor for backward.
        lora_B = lora_B * rank_gate
    elif rank_gate is not None:
        rows = rank_gate.to(hidden.dtype)
        hidden = hidden * (rows.unsqueeze(1) if x.dim() == 3 else rows)
    hidden = hidden.to(base_out.dtype).flatten(0, -2)
    out = torch.addmm(base_out.flatten(0, -2), hidden, lora_B.to(hidden.dtype).t())
    return out.view(base_out.shape)


def fold(lora_A: Tensor, lora_B: Tensor, gate: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """Fold the experts of one task into an ordinary LoRA of scaling 1.

    Args:
        lora_A: [N * r, d_in].
        lora_B: [d_out, N * r].
        gate: [N], zero for closed experts.
        scaling: lora_alpha / r.

    Returns:
        A [R, d_in] and B [d_out, R] with R = r * (number of open experts): for every x,
        `B A x = scaling * sum_e gate[e] B_e A_e x`.
    """
    rank_gate = spread(gate, scaling, lora_A.shape[0])
    kept = rank_gate != 0
    return lora_A[kept], (lora_B * rank_gate)[:, kept]


def spread(gate: Tensor, scaling: float, wide_rank: int) -> Tensor:
    """Spread gate [..., N] over the wide rank [..., N * r], times scaling.

    Args:
        gate: [..., N] weight of each expert.
        scaling: `lora_alpha / r`.
        wide_rank: N * r, the rank of all experts together.
    """
    rank = wide_rank // gate.shape[-1]
    return (gate * scaling).unsqueeze(-1).expand(*gate.shape, rank).flatten(-2)
