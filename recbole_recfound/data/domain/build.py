"""Domains of a data set. Names and edges come from training rows and side files, never from held-out rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import Dataset
from recbole.utils import FeatureType, ModelType

from recbole_recfound.atomic.missing import UNFILLED, cells
from recbole_recfound.atomic.times import TimeUnit, unit_of
from recbole_recfound.compat.raw_column import as_in_file, raw_range
from recbole_recfound.data.domain.assign import ColumnDomains, Domains, LookupDomains
from recbole_recfound.data.domain.spec import CLOCK, DomainSpec, bucket_edges, bucket_names
from recbole_recfound.data.text import read_atomic
from recbole_recfound.errors import ConfigError, DataError

MOST_DOMAINS = 10_000


def build_domains(spec: DomainSpec, train: Dataset, fixed: Mapping[str, Any] | None = None) -> Domains:
    """Find a domain's field in .inter, .user or .item, and number its values.

    Side files are read directly: loading further columns through RecBole would change the ids that a trained base
    knows.

    Args:
        spec: parsed specification.
        train: RecBole's built training set.
        fixed: `names` and `edges` of an earlier run, which are reused; None: taken from the data.

    Raises:
        ConfigError: there is no such field, the field would leak the target, or the rule does not fit it.
        DataError: most values of a numeric rule are not numbers.
    """
    config = train.config
    _refuse_leaks(spec, train)
    if spec.field in train.inter_feat.columns:
        return _of_interactions(spec, train, fixed)
    for suffix, id_field in (("user", train.uid_field), ("item", train.iid_field)):
        path = Path(config["data_path"]) / f"{config['dataset']}.{suffix}"
        if path.is_file():
            table = read_atomic(path, config["field_separator"], config["encoding"])
            if spec.field in table.kinds:
                if suffix == "item" and _ranks_items(config):
                    raise ConfigError(
                        f"domain: got {spec.field}, a field of items, which would leak the target where items are "
                        "ranked. Use it with models that predict clicks, scored on labelled rows (eval_args: {mode: "
                        "labeled})"
                    )
                by_token = {token: row.get(spec.field, "") for token, row in table.by_key(id_field).items()}
                return _of_entities(spec, train, id_field, by_token, fixed, path)
    loaded = ", ".join(name for name in train.inter_feat.columns if not name.endswith(UNFILLED))
    raise ConfigError(
        f"domain: no field {spec.field!r} in {config['dataset']}'s .user or .item, nor among the columns loaded from "
        f".inter ({loaded}). Add it to load_col"
    )


def _refuse_leaks(spec: DomainSpec, train: Dataset) -> None:
    config = train.config
    told_by = {config["LABEL_FIELD"], config["RATING_FIELD"], *(config["threshold"] or {})}
    if spec.field in told_by:
        raise ConfigError(
            f"domain: got {spec.field}, the target (label or rating), expected a field that is known before"
        )
    if spec.field == train.iid_field and _ranks_items(config):
        raise ConfigError(f"domain: got {spec.field}, the item to be ranked, expected a field that is known before")


def _ranks_items(config: Any) -> bool:
    """Return whether a held-out row is scored with items besides its own, which all get the domain of the row."""
    return config["MODEL_TYPE"] != ModelType.CONTEXT or set(config["eval_args"]["mode"].values()) != {"labeled"}


def _of_interactions(spec: DomainSpec, train: Dataset, fixed: Mapping[str, Any] | None) -> Domains:
    kind = train.field2type[spec.field]
    values = cells(train.inter_feat, spec.field)
    # RecBole also gives the length of a history the type token, but no names for its values.
    if kind == FeatureType.TOKEN and spec.field in train.field2id_token:
        if spec.clock:
            raise ConfigError(
                f"domain: {spec.text}: {spec.field} holds tokens, and {spec.clock} is a rule for times (a float column)"
            )
        tokens = [str(token) for token in train.field2id_token[spec.field]]
        ids = range(1, len(tokens))
        return _of_tokens(spec, spec.field, {i: tokens[i] for i in ids}, len(tokens), fixed, values.numpy())
    if kind not in (FeatureType.FLOAT, FeatureType.TOKEN):
        raise ConfigError(f"domain: {spec.field} holds sequences; a domain is one token or number per row")
    if not spec.numeric:
        raise ConfigError(f"domain: {spec.field} holds numbers: name edges or a rule, as in {spec.field}:quantile:4")
    found = raw_range(train, spec.field)
    numbers = as_in_file(values, found).numpy()
    if spec.clock:
        per_second = _unit(spec, train, numbers).per_second
        return ColumnDomains(spec.text, tuple(CLOCK[spec.clock]), spec.field, (), spec.clock, found, per_second)
    return replace(_buckets(spec, spec.field, numbers, fixed), raw_range=found)


def _unit(spec: DomainSpec, train: Dataset, numbers: np.ndarray) -> TimeUnit:
    """Recognise the unit of a column of times.

    Raises:
        ConfigError: the numbers are no times of a clock, or in a form that RecBole's single precision loses.
    """
    known = numbers[np.isfinite(numbers)]
    whole = getattr(train, "time_range", None) if spec.field == train.time_field else None
    unit = unit_of(*(whole or (float(known.min(initial=0)), float(known.max(initial=0)))))
    if not unit.per_second:
        raise ConfigError(
            f"domain: {spec.text}: {spec.field} holds {unit.name}, but {spec.clock} needs seconds, milliseconds, "
            "microseconds or nanoseconds since 1970"
        )
    return unit


def _buckets(spec: DomainSpec, field: str, values: np.ndarray, fixed: Mapping[str, Any] | None) -> ColumnDomains:
    """Build a numeric rule, with quantiles of `values` unless an earlier run has fixed the edges."""
    edges = fixed["edges"] if fixed else bucket_edges(spec, values).tolist()
    return ColumnDomains(spec.text, tuple(bucket_names(edges)), field, tuple(edges), "")


def _of_entities(
    spec: DomainSpec,
    train: Dataset,
    id_field: str,
    by_token: dict[str, str],
    fixed: Mapping[str, Any] | None,
    path: Path,
) -> Domains:
    """Build domains of users or items from a column of their file."""
    if spec.clock:
        raise ConfigError(f"domain: {spec.text}: {spec.clock} is a rule for times of interactions, not for {path.name}")
    tokens = train.field2id_token[id_field]
    of_id = {i: by_token.get(str(tokens[i]), "") for i in range(1, len(tokens))}
    if not spec.numeric:
        return _of_tokens(spec, id_field, of_id, len(tokens), fixed)
    numbers = _numbers(of_id, len(tokens), spec, fixed is None)
    seen = np.unique(train.inter_feat[id_field].numpy())
    rule = _buckets(spec, id_field, numbers[seen], fixed)
    return LookupDomains(spec.text, rule.names, id_field, rule.edges, rule.of_values(torch.from_numpy(numbers)))


def _numbers(of_id: dict[int, str], size: int, spec: DomainSpec, tell: bool) -> np.ndarray:
    """Parse the number of each id, float64 [size]; NaN (no domain) for ids without one.

    Raises:
        DataError: most values are not numbers.
    """
    numbers, odd = np.full(size, np.nan), []
    for i, text in of_id.items():
        try:
            numbers[i] = float(text or "nan")
        except ValueError:
            odd.append(text)
    if 2 * len(odd) > len(of_id):
        raise DataError(
            f"domain: {spec.text} needs numbers, but {len(odd)} of {len(of_id)} values of {spec.field} are not "
            f"numbers, such as {odd[0]!r}"
        )
    if odd and tell:
        print(
            f"domain {spec.text}: {len(odd)} of {len(of_id)} values are not numbers and get no domain, such as "
            f"{odd[0]!r}",
            flush=True,
        )
    return numbers


def _of_tokens(
    spec: DomainSpec,
    field: str,
    of_id: dict[int, str],
    size: int,
    fixed: Mapping[str, Any] | None,
    rows: np.ndarray | None = None,
) -> Domains:
    """Build domains from the text of an id; names and quantiles are those of the ids in training `rows`."""
    if spec.numeric:
        numbers = _numbers(of_id, size, spec, fixed is None)
        rule = _buckets(spec, field, numbers if rows is None else numbers[rows], fixed)
        return LookupDomains(spec.text, rule.names, field, rule.edges, rule.of_values(torch.from_numpy(numbers)))
    seen = of_id if rows is None else np.unique(rows).tolist()
    names = tuple(fixed["names"]) if fixed else tuple(sorted({of_id[i] for i in seen if of_id.get(i)}))
    if not names:
        raise ConfigError(f"domain: {spec.field} is empty for every row")
    if len(names) > MOST_DOMAINS:
        raise ConfigError(
            f"domain: {spec.field} has {len(names)} values, more than {MOST_DOMAINS}; a bucket rule makes fewer"
        )
    number_of = {name: number for number, name in enumerate(names)}
    table = torch.full((size,), -1, dtype=torch.long)
    for i, text in of_id.items():
        table[i] = number_of.get(text, -1)
    return LookupDomains(spec.text, names, field, (), table)


def permuted(domains: Domains, train: Dataset, seed: int) -> Domains:
    """Permute the domains among users (or items): a control in which a domain means nothing.

    Args:
        domains: one type of domain.
        train: RecBole's built training set; names the columns of users and items.
        seed: of the permutation.

    Raises:
        ConfigError: the domain is a column of .inter: a permutation would only rename its values.
    """
    if domains.field not in (train.uid_field, train.iid_field) or not isinstance(domains, LookupDomains):
        raise ConfigError(
            f"control: got permuted_domains with {domains.text}, a column of .inter; expected a domain of users or "
            "items"
        )
    ids = torch.arange(1, len(domains.table))
    shuffled = torch.from_numpy(np.random.default_rng([seed, 0xD0]).permutation(len(ids)))
    table = domains.table.clone()
    table[ids] = domains.table[ids[shuffled]]
    return replace(domains, table=table)


def eval_domains(domains: Domains, held_out: Dataset) -> torch.Tensor | None:
    """Return the domain of each user's held-out rows, for loaders with one row per user and no columns of .inter.

    Args:
        domains: one type of domain.
        held_out: RecBole's built validation or test set.

    Returns:
        int64 [number of users] (-1 = none), or None where the user alone decides.

    Raises:
        ConfigError: a user's held-out rows lie in different domains.
    """
    if domains.field == held_out.uid_field:
        return None
    users, found = held_out.inter_feat[held_out.uid_field], domains.of(held_out.inter_feat)
    table = torch.full((held_out.user_num,), -1, dtype=torch.long)
    table[users] = found
    if not torch.equal(table[users], found):
        raise ConfigError(
            f"domain: {domains.text} puts held-out rows of one user into several domains, but this model ranks once "
            f"per user. Hold out one row per user (eval_args: {{split: {{LS: valid_and_test}}}})"
        )
    return table
