"""The formats of an export, and the folder that it fills."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.whole_file import partial_beside
from recbole_recfound.serving.export.exported import Exported
from recbole_recfound.serving.export.index import export_index
from recbole_recfound.serving.export.lora import export_merged, export_peft
from recbole_recfound.serving.export.onnx import export_onnx
from recbole_recfound.serving.export.sentence import export_sentence_transformer

FORMATS: dict[str, Callable[[Exported, str, Path], str]] = {
    "peft": export_peft,
    "merged": export_merged,
    "sentence-transformers": export_sentence_transformer,
    "index": export_index,
    "onnx": export_onnx,
}
"""Name -> function that fills a folder and returns how to load it, as Markdown."""


def export_run(run: Exported, task: str, form: str, out: str | Path) -> Path:
    """Write one task of a run in the format of another library.

    Args:
        run: what is exported.
        task: name of a task of the run.
        form: one of `FORMATS`.
        out: folder to write; it must not exist.

    Returns:
        The folder.

    Raises:
        ConfigError: unknown task or format, a folder that exists, a missing package, or a task that the format cannot
            hold.
    """
    saved, out, problems = run.saved, Path(out), []
    if form not in FORMATS:
        problems.append(f"format: got {form!r}, expected one of {', '.join(FORMATS)}")
    if task not in run.model.parts.tasks:
        problems.append(f"task: got {task!r}, expected one of the run's: {', '.join(run.model.parts.tasks)}")
    if out.exists():
        problems.append(f"out: {out} exists already: name a new folder")
    if control := saved.settings["control"]:
        problems.append(f"export: the run is a control ({control}); its weights say nothing outside its table")
    if problems:
        raise ConfigError(problems)
    partial = partial_beside(out)
    partial.mkdir(parents=True)
    try:
        text = FORMATS[form](run, task, partial)
        head = f"# {task} of {saved.folder.name}\n\n{saved.settings['model']} on {saved.settings['dataset']}, backbone"
        (partial / "README.md").write_text(f"{head} `{saved.backbone.name}`.\n\n{text}", encoding="utf-8")
        try:
            partial.rename(out)
        except OSError:
            if not out.exists():
                raise
            raise ConfigError(f"out: {out} was written by another process meanwhile: name a new folder") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def push(folder: str | Path, name: str) -> str:
    """Upload an exported folder to the Hugging Face hub, with the token that `hf auth login` stored.

    Args:
        folder: from `export_run`.
        name: `user/repository`; created, privately, if it does not exist.

    Returns:
        The address of the upload.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(name, private=True, exist_ok=True)
    return str(api.upload_folder(repo_id=name, folder_path=folder))
