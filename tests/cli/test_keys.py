"""The generated reference of all settings."""

import re
import subprocess
import sys

from recbole_recfound.cli import keys
from recbole_recfound.config.known import known_rules, our_lines
from recbole_recfound.model.kernel.options import IAKOptions, KernelOptions
from recbole_recfound.runtime.options import describe


def test_the_page_lists_every_key_and_every_option():
    page = keys.reference_markdown()
    for key in our_lines():
        assert f"| `{key}` |" in page, key
    for cls in (KernelOptions, IAKOptions):
        for info in describe(cls):
            assert info.effect, info.name
            assert f"| `{info.name}` |" in page and info.effect.replace("|", "/") in page
    assert "| `learning_rate` | `0.006` | a number, above 0 |" in page
    assert known_rules()["kernel_args"].options and "### Options of `kernel_args`" in page


def test_the_page_in_docs_is_current(checkout, tmp_path):
    # In a fresh process: other tests register tasks, history modes and so on, which the page would list.
    page = tmp_path / "configuration.md"
    subprocess.run([sys.executable, "-m", "recbole_recfound.cli.keys", page], cwd=checkout, check=True)
    text = (checkout / "docs" / "configuration.md").read_text()
    assert text == page.read_text(), "run: python -m recbole_recfound.cli.keys docs/configuration.md"


def test_the_page_is_written_with_its_folder(tmp_path):
    keys.main(tmp_path / "docs" / "configuration.md")
    assert (tmp_path / "docs" / "configuration.md").read_text() == keys.reference_markdown()


def test_keys_have_an_effect():
    rows = [line for line in keys.reference_markdown().splitlines() if line.startswith("| `")]
    assert len(rows) > 100 and not [row for row in rows if re.search(r"\|\s*\|$", row)]
