"""Domains of the rows of a data set: by a field, by buckets of a number, or by time."""

from recbole_recfound.data.domain.assign import ColumnDomains, Domains, LookupDomains
from recbole_recfound.data.domain.build import build_domains, eval_domains, permuted
from recbole_recfound.data.domain.spec import DomainSpec, parse_domain

__all__ = [
    "ColumnDomains",
    "DomainSpec",
    "Domains",
    "LookupDomains",
    "build_domains",
    "eval_domains",
    "parse_domain",
    "permuted",
]
