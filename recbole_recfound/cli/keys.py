"""Every key of our YAML files and every option as a page of Markdown.

python -m recbole_recfound.cli.keys docs/configuration.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from recbole_recfound.cli.help import shown_default
from recbole_recfound.config.known import known_rules, our_files, rule_of_hint
from recbole_recfound.config.models import ModelNames
from recbole_recfound.config.option_classes import option_classes
from recbole_recfound.config.property_files import Setting, read_settings
from recbole_recfound.config.schema import NAMES, expected
from recbole_recfound.config.settings import OF_EACH_MODEL, OF_RECBOLE
from recbole_recfound.runtime.locations import properties_dir
from recbole_recfound.runtime.options import OptionInfo, describe

INTRODUCTION = """# Configuration

<!-- Generated: python -m recbole_recfound.cli.keys docs/configuration.md -->

Settings come from these sources, from weakest to strongest: RecBole's YAML files, `properties/overall.yaml`,
`properties/model/<model>.yaml`, `properties/dataset/<dataset>.yaml`, your YAML files (`--config_files="a.yaml b.yaml"`,
later ones win), `config_dict` or the command line. Keys of RecBole work as well (`recfound run --help` lists all).

* Mappings of options (`*_args`) of this package are merged key by key with weaker sources; RecBole's own mappings
  (`eval_args`, `train_neg_sample_args`, `load_col`) are replaced, as in RecBole.
* On the command line a text key takes its value literally (`--data_path='/data/my data #1'`), a list may be typed with
  commas (`--topk=5,10`), and everything else is YAML. Values of YAML files and `config_dict` are never parsed again.
* All mistakes of a configuration are reported together, and the command line exits with status 2.
* A key of this package that the chosen model does not read is reported in a note.
* `~` is YAML's empty value (None).
"""


def reference_markdown() -> str:
    """Return the page of all keys and options: name, default, allowed values, effect."""
    sections = [INTRODUCTION]
    for path in our_files():
        settings = read_settings(path)
        rows = [(f"`{s.key}`", f"`{_shown(s.value)}`", _allowed(s), s.effect) for s in settings]
        sections.append(f"## {_title(path)}\n\n{_table(('key', 'default', 'allowed', 'effect'), rows)}\n")
        sections += [section for setting in settings for section in _options(setting)]
    return "\n".join(sections)


def _options(setting: Setting) -> list[str]:
    """One section for the options of a `*_args` key."""
    options = known_rules()[setting.key].options
    if options in ("", OF_RECBOLE, OF_EACH_MODEL):
        return []
    heading = f"### Options of `{setting.key}`\n"
    set_here = setting.value if isinstance(setting.value, Mapping) else {}
    of_all: set[str] = set()
    by_class: dict[tuple[Any, ...], tuple[list[OptionInfo], list[str]]] = {}
    for name, cls in option_classes(options).items():
        infos = [info for info in describe(cls) if info.name not in of_all]
        shared, _, entry = name.rpartition(" ")
        if "." in shared:  # a class whose options every entry has
            of_all |= {info.name for info in infos}
        by_class.setdefault(tuple(map(repr, infos)), (infos, []))[1].append(entry)
    sections = []
    for infos, names in by_class.values():
        listed = ", ".join(f"`{name}`" for name in names if name)
        rows = [(f"`{i.name}`", f"`{_shown(set_here.get(i.name, i.default))}`", i.expected, i.effect) for i in infos]
        none = "no further options" if of_all else "no options"
        table = _table(("option", "default", "allowed", "effect"), rows) if infos else none
        sections.append(f"{listed}:\n\n{table}\n" if listed else f"{table}\n")
    return [heading, *sections]


def _allowed(setting: Setting) -> str:
    """Return the allowed values of a key in words; names of RecBole's models are too many to list."""
    rule = rule_of_hint([setting])
    named = f"any {rule.registry}" if isinstance(NAMES.get(rule.registry), ModelNames) else ""
    return ", ".join(filter(None, [expected(replace(rule, registry="") if named else rule), named]))


def _shown(default: Any) -> str:
    return shown_default(list(default) if isinstance(default, tuple) else default) or ("''" if default == "" else "~")


def _title(path: Path) -> str:
    return f"properties/{path.relative_to(properties_dir())}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)])


def main(path: Path) -> None:
    """Write the page into a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(reference_markdown(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
