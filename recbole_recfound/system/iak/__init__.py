"""IAK: kernels for the domains of a frozen recommender."""

from recbole_recfound.system.iak.system import IAKSystem

__all__ = ["IAKSystem"]
