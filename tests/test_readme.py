"""README, docs and CONTRIBUTING say what the program does today."""

import re
import shlex
from pathlib import Path

import pytest

from recbole_recfound.cli.arguments import parse_arguments, read_values
from recbole_recfound.config.settings import settings_of
from recbole_recfound.data.task import TASKS
from recbole_recfound.quick_start import load_recfound, run_recfound

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"^(?:python run_recfound\.py|recfound (?:run|compare|seeds)) (--.*)$", re.M)


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)


def anchors(path: Path) -> set[str]:
    """Heading anchors of a page, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1800


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_command_lines_have_keys_that_exist(path):
    for line in COMMAND.findall(path.read_text(encoding="utf-8")):
        words = [word for word in shlex.split(line, comments=True) if word != "..."]
        given = parse_arguments(words)
        given.pop("seeds", None)
        model = given.pop("model", "RecFound")
        assert settings_of(None, read_values(given), model) is not None, line


def test_there_are_command_lines_to_check():
    assert sum(len(COMMAND.findall(path.read_text(encoding="utf-8"))) for path in PAGES) >= 4


def test_python_of_the_readme_runs(small_settings, tiny_path, monkeypatch):
    """Its calls, with the tiny backbone and data set instead of the bundled ones."""

    def quick(model, dataset, config_dict, baselines):
        settings = small_settings | config_dict | {"max_steps": 2, "task_test_examples": 0}
        return run_recfound(model, "tiny", config_dict=settings, baselines=["Pop"])

    monkeypatch.setattr("recbole_recfound.quick_start.run_recfound", quick)
    (code,) = blocks(ROOT / "README.md", "python")
    monkeypatch.setattr("recbole_recfound.quick_start.load_recfound", lambda folder: Loaded(load_recfound(folder)))
    names: dict = {}
    exec(code, names)  # noqa: S102  (our own README)
    assert names["result"]["comparison"][0]["model"] == "Pop" and names["run"].asked == [(["50", "181", "172"], 10)]


class Loaded:
    """A loaded run that is asked with items of the tiny data set, and keeps what it was asked."""

    def __init__(self, run):
        self.run, self.asked = run, []

    def recommend(self, history, k):
        self.asked.append((history, k))
        return self.run.recommend(list(self.run.item_ids)[:3], k=k)


@pytest.mark.parametrize(
    "path", [ROOT / "docs" / "extending.md", ROOT / "docs" / "serving.md"], ids=lambda path: path.name
)
def test_python_of_the_docs_compiles(path):
    found = blocks(path, "python")
    assert found
    for code in found:
        compile(code, str(path), "exec")


def test_every_builder_is_in_the_table_of_tasks():
    text = (ROOT / "docs" / "tasks-and-records.md").read_text(encoding="utf-8")
    assert not [name for name, task in TASKS.items() if task.from_atomic_files and f"| {name} |" not in text]
