"""The kernel of IAK (arXiv 2501.14268) in plain torch: a bank of small encoder-decoders, one per domain."""

from recbole_recfound.model.kernel.bank import BankOutput, Banks, IAKKernelBank, Kernels
from recbole_recfound.model.kernel.blocks import each_row, group_rows
from recbole_recfound.model.kernel.gaussian import gaussian_kl
from recbole_recfound.model.kernel.sizes import default_sizes, kernel_parameters, sizes_within

__all__ = [
    "Banks",
    "IAKKernelBank",
    "Kernels",
    "BankOutput",
    "default_sizes",
    "each_row",
    "gaussian_kl",
    "group_rows",
    "kernel_parameters",
    "sizes_within",
]
