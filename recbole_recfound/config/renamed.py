"""Names of settings that have changed: a refused old name is answered with the new one."""

from __future__ import annotations

RENAMED: dict[str, str] = {
    "iak_epochs": "epochs",
    "iak_batch_size": "train_batch_size",
    "iak_learning_rate": "learning_rate",
    "iak_stopping_step": "stopping_step",
    "iak_valid_metric": "valid_metric",
    "iak_permute_domains": "control: permuted_domains",
    **{
        f"iak_{name}": f"kernel_args: {{{name}: ...}}"
        for name in ("layer", "combine", "stochastic", "prior", "bottleneck", "code_size", "budget")
    },
    **{
        f"iak_{name}": f"iak_args: {{{name}: ...}}"
        for name in (
            "base_share", "cold", "beta", "lambda_c", "lambda_kd", "schedule", "sampling", "least_steps", "warm_start",
        )
    },
}  # fmt: skip
"""Old key -> how it is written now."""
