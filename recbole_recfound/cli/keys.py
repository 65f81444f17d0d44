"""Every key of our YAML files as Markdown, for the README: `python -m recbole_recfound.cli.keys README.md`."""

from __future__ import annotations

import sys
from pathlib import Path

from recbole_recfound.cli.help import shown_default
from recbole_recfound.config.property_files import read_settings
from recbole_recfound.runtime.locations import properties_dir

BEGIN, END = "<!-- keys: begin -->", "<!-- keys: end -->"


def keys_markdown() -> str:
    """One table per YAML file: key, default, effect."""
    ours = properties_dir()
    sections = []
    for path in [ours / "overall.yaml", *sorted((ours / "model").glob("*.yaml"))]:
        rows = [
            f"| `{setting.key}` | `{shown_default(setting.value) or ' '}` | {setting.effect.replace('|', '/')} |"
            for setting in read_settings(path)
        ]
        sections.append(
            "\n".join(
                [f"### properties/{path.relative_to(ours)}", "", "| key | default | effect |", "|---|---|---|", *rows]
            )
        )
    return "\n\n".join(sections)


def with_keys(text: str) -> str:
    """`text` with the part between the two marks replaced by today's keys."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{keys_markdown()}\n{END}{after}"


if __name__ == "__main__":
    readme = Path(sys.argv[1])
    readme.write_text(with_keys(readme.read_text(encoding="utf-8")), encoding="utf-8")
