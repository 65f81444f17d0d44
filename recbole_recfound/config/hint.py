"""Grammar of the bracket hint that starts the comment of a key in our YAML files.

The hint is the only place where type and bounds of a top-level key stand:

    max_steps: 3000        # (int or None; >= 0) Training ends after this many steps.
    precision: auto        # (str; auto, bf16, float32) Number format of the backbone.
    scheduler: s2sched     # (str; any scheduler) How tasks are sampled.
    tasks: [U2I, SR]       # (list of str; any task) Tasks to train.
    kernel_args: {}        # (dict; options of model.kernel.options.KernelOptions) Shape of the kernels.

    hint    = "(" types { ";" clause } ")"
    types   = type { " or " type }
    type    = scalar | "None" | ("list" | "dict") [ " of " (scalar | "dict") ]
    scalar  = "int" | "float" | "str" | "bool"
    clause  = bounds | names | options
    bounds  = bound { "," bound }
    bound   = (">=" | "<=" | ">" | "<") number
    names   = name { "," name }
    name    = word | "any " noun
    options = "options of " ( class | key | "each " noun | "RecBole" )

Bounds hold for a number, each element of a list and each value of a mapping. Names hold for a text, each element of a
list and each key of a mapping. A noun is that of a registry in runtime/registry.py (`any scheduler`, `any merge
method`), `model` or `RecBole model`.

    options of CLASS                a subclass of `runtime.options.Options`; its path begins in recbole_recfound or in
                                    another package
    options of scheduler            options of the entry that the key `scheduler` chooses
    options of each task            mapping from task to its options
    options of RecBole              settings of one of RecBole's models (`base_args`)
    options of each RecBole model   mapping from model to its settings (`baseline_args`)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict}
BOUNDS = {">=": "minimum", "<=": "maximum", ">": "above", "<": "below"}
NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
TYPE = re.compile(r"(?P<plain>int|float|str|bool|None)|(?P<outer>list|dict)(?: of (?P<inner>int|float|str|bool|dict))?")
BOUND = re.compile(rf"(>=|<=|>|<)\s*({NUMBER})")
NAME = re.compile(r"any ([\w ]+)|[\w.\-]+")
OPTIONS = re.compile(r"options of ((?:each )?[\w.]+(?: [\w.]+)*)")


@dataclass(frozen=True)
class Hint:
    """A parsed hint.

    Attributes:
        types: allowed types.
        nullable: whether an empty value (`~`) is allowed.
        elements: allowed types of a list's elements and a mapping's values, by the outer type; missing: any.
        words: allowed texts, beside those of `registry`.
        registry: noun of the registry whose names are allowed; "": none.
        options: class, key or `each noun` behind "options of"; "": none.
        minimum, maximum: smallest and largest number allowed.
        above, below: exclusive bounds.
    """

    types: tuple[type, ...]
    nullable: bool = False
    elements: tuple[tuple[type, type], ...] = ()
    words: tuple[str, ...] = ()
    registry: str = ""
    options: str = ""
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None


def parse_hint(text: str) -> Hint:
    """Parse the text between the brackets of a hint.

    Raises:
        ValueError: the text does not follow the grammar.

    Example:
        >>> hint = parse_hint("float or None; > 0, <= 1")
        >>> hint.types, hint.nullable, hint.above, hint.maximum
        ((<class 'float'>,), True, 0.0, 1.0)
    """
    kinds, *clauses = (part.strip() for part in text.split(";"))
    types: list[type] = []
    elements: list[tuple[type, type]] = []
    nullable = False
    for kind in kinds.split(" or "):
        match = TYPE.fullmatch(kind.strip())
        if match is None:
            raise ValueError(
                f"hint ({text}): unknown type {kind.strip()!r}, expected {', '.join(TYPES)}, None or 'list of ...'"
            )
        if match["plain"] == "None":
            nullable = True
            continue
        types.append(TYPES[match["plain"] or match["outer"]])
        if match["inner"]:
            elements.append((TYPES[match["outer"]], TYPES[match["inner"]]))
    if not types:
        raise ValueError(f"hint ({text}): names no type beside None")
    words: list[str] = []
    registry = options = ""
    bounds: dict[str, float] = {}
    for clause in clauses:
        parts = [part.strip() for part in clause.split(",")]
        if match := OPTIONS.fullmatch(clause):
            options = match[1]
        elif all(BOUND.fullmatch(part) for part in parts):
            for operator, number in (BOUND.fullmatch(part).groups() for part in parts):  # type: ignore[union-attr]
                bounds[BOUNDS[operator]] = float(number)
        else:
            for part in parts:
                match = NAME.fullmatch(part)
                if match is None:
                    raise ValueError(f"hint ({text}): cannot read {part!r} as a bound, a name or 'any NOUN'")
                if match[1]:
                    registry = match[1]
                else:
                    words.append(part)
    return Hint(tuple(types), nullable, tuple(elements), tuple(words), registry, options, **bounds)
