"""README, docs and CONTRIBUTING say what the program does today."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from recbole_recfound.cli.arguments import parse_arguments, read_values
from recbole_recfound.config.known import known_rules
from recbole_recfound.config.settings import settings_of
from recbole_recfound.data.task import TASKS
from recbole_recfound.errors import ConfigError
from recbole_recfound.quick_start import load_recfound, run_recfound

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAM = r"(?:python run_recfound\.py|recfound (?:run|compare|seeds))"
COMMAND = re.compile(rf"^{PROGRAM} (--.*)$", re.M)
SPAN = re.compile(rf"(?:{PROGRAM} )?(--\w.*)$")
OF_A_VERB = ("seeds", "list_layers", "dry_run", "config_files", "help", "dataset", "api_key", "quick")
"""Words that the command line reads itself."""

PLACEHOLDER = re.compile(r"\.\.\.|\b(?:N|FOLDER|RUN|NAME)\b|--key")
NOT_SETTINGS = ("order: TO", "key: got X, expected Y. Hint.")
"""A part of `eval_args`, and the form of an error."""

OLD_ENGLISH = ("for want of", "goes on", "so many", "dear", "anew", "mend", "told", "held to")


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


def spans(path: Path) -> list[str]:
    """Code within sentences and tables, on one line each."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def command_lines(path: Path) -> list[str]:
    """The options of every command line of a page, in blocks and in sentences."""
    within = [match[1] for span in spans(path) if (match := SPAN.match(span)) and not PLACEHOLDER.search(match[1])]
    return COMMAND.findall(path.read_text(encoding="utf-8")) + within


def model_of(path: Path) -> str:
    """The model that a page is about."""
    return "IAK" if path.name == "iak.md" else "RecFound"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_command_lines_are_accepted_and_have_an_effect(path):
    for line in command_lines(path):
        words = [word for word in shlex.split(line, comments=True) if word != "..."]
        given = {key: text for key, text in parse_arguments(words).items() if key not in OF_A_VERB}
        model = given.pop("model", model_of(path))
        assert settings_of(None, read_values(given), model).notes == [], line


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_settings_in_sentences_are_accepted(path):
    for span in spans(path):
        if path.name == "configuration.md" or not re.match(r"\w+: \S", span) or span in NOT_SETTINGS:
            continue
        settings = yaml.safe_load(span.replace("...", "~"))
        assert set(settings) <= set(known_rules()), span
        # Those of extending.md name what its examples register; they are run below.
        if not PLACEHOLDER.search(span) and path.name != "extending.md":
            settings_of(None, settings, model_of(path))


def test_there_are_command_lines_to_check():
    found = {path.name: len(command_lines(path)) for path in PAGES}
    assert sum(found.values()) >= 20 and found["README.md"] and found["iak.md"] >= 10


@pytest.mark.parametrize(
    "line", ["--sr_form=title", "--iak_budget=0.05", "--task_args='{SR: {from: title}}'", "--base_checkpoint=a"]
)
def test_the_check_of_command_lines_can_fail(tmp_path, line):
    """An old key, another old key, a misspelt option, and a key that the model does not read."""
    page = tmp_path / "page.md"
    page.write_text(f"Type `{line}`.\n")
    with pytest.raises((ConfigError, AssertionError)):
        test_command_lines_are_accepted_and_have_an_effect(page)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_english(path):
    text = " ".join(path.read_text(encoding="utf-8").lower().split())
    assert not [phrase for phrase in OLD_ENGLISH if re.search(rf"\b{phrase}\b", text)]


def test_python_of_the_readme_runs(small_settings, tiny_path, monkeypatch):
    """Its calls, with the tiny backbone and data set instead of the bundled ones."""

    def quick(model, dataset, config_dict, baselines):
        settings = small_settings | config_dict | {"max_steps": 2, "task_test_examples": 0}
        return run_recfound(model, "tiny", config_dict=settings, baselines=["Pop"])

    monkeypatch.setattr("recbole_recfound.quick_start.run_recfound", quick)
    (code,) = blocks(ROOT / "README.md", "python")
    monkeypatch.setattr("recbole_recfound.quick_start.load_recfound", lambda folder: Loaded(load_recfound(folder)))
    names: dict = {}
    exec(code, names)
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


EXTENSIONS = {
    "tasks": ["U2I", "SR", "BR"],
    "task_args": {"BR": {"column": "class"}},
    "scheduler": "square_root",
    "adapter": "dora",
    "merge_method": "median",
    "history": "mean",
}
"""Settings that use what docs/extending.md registers."""


def test_python_of_extending_runs(small_run, tmp_path):
    """Its examples in a file of their own, used by one run; a system is run from examples/add_a_system.py."""
    launch, *parts, _system = blocks(ROOT / "docs" / "extending.md", "python")
    (tmp_path / "my_extensions.py").write_text("\n".join(parts))
    settings = small_run | EXTENSIONS | {"dataset": "tiny", "task_test_examples": 2}
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(dict(settings)))
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", launch], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "tasks (training examples): U2I" in done.stdout and re.search(r"^BR: ", done.stdout, re.M)


def test_python_of_serving_runs(small_run, monkeypatch):
    """Its calls in turn on a run with the tiny backbone, with item tokens of the tiny data set."""
    settings = small_run | {"max_steps": 2, "task_test_examples": 0, "tasks": ["U2I", "Q2I", "SR"]}
    result = run_recfound("RecFound", "tiny", config_dict=settings)
    run = load_recfound(result["run_dir"])
    monkeypatch.setattr("recbole_recfound.quick_start.load_recfound", lambda folder: run)
    (code,) = blocks(ROOT / "docs" / "serving.md", "python")
    tokens = iter(list(run.item_ids)[:4])
    for token in ("50", "181", "172", "174"):
        code = code.replace(f'"{token}"', repr(next(tokens)))
    exec(code, {})
    assert "new" in [token for token, _, _ in run.recommend(list(run.item_ids)[:1], k=len(run.item_ids))]


def test_every_builder_is_in_the_table_of_tasks():
    text = (ROOT / "docs" / "tasks-and-records.md").read_text(encoding="utf-8")
    assert not [name for name, task in TASKS.items() if task.from_atomic_files and f"| {name} |" not in text]
