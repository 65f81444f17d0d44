"""Sizes of a kernel."""


def default_sizes(hidden_size: int) -> tuple[int, int]:
    """Return the default sizes: bottleneck m = d/2 and code size r = max(4, d/8)."""
    return max(1, hidden_size // 2), max(4, hidden_size // 8)


def kernel_parameters(
    hidden_size: int, bottleneck: int, code_size: int, aux_size: int = 0, combine: str = "residual"
) -> int:
    """Return the trained parameters of one domain's kernel, without a learned prior.

    Args:
        hidden_size: d.
        bottleneck: m.
        code_size: r.
        aux_size: outputs of the auxiliary head; 0 without one.
        combine: `gated` adds a gate.
    """
    d, m, r = hidden_size, bottleneck, code_size
    encoder = d * m + m + 2 * (m * r + r)
    decoder = r * d + r * m + m + m * d + d + 1
    aux = r * aux_size + aux_size
    return encoder + decoder + aux + (2 * d + 1 if combine == "gated" else 0)


def sizes_within(
    limit: float, hidden_size: int, aux_size: int = 0, combine: str = "residual"
) -> tuple[int, int] | None:
    """Return the widest bottleneck and code whose kernel has at most `limit` parameters.

    The code keeps the default's shape, r = m/4, and never exceeds the default sizes.

    Args:
        limit: parameters of one domain's kernel.
        hidden_size: d.
        aux_size: outputs of the auxiliary head.
        combine: as in `kernel_parameters`.

    Returns:
        (m, r), or None where even m = 1, r = 1 is too wide.
    """
    widest, _ = default_sizes(hidden_size)
    for m in range(widest, 0, -1):
        r = max(1, m // 4)
        if kernel_parameters(hidden_size, m, r, aux_size, combine) <= limit:
            return m, r
    return None
