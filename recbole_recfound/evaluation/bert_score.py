"""BERTScore with a model from a local folder."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from recbole_recfound.errors import ConfigError


def check_bert_score(folder: str) -> None:
    """Refuse a folder without a model, or a missing package, before anything is trained.

    Raises:
        ConfigError: names what is missing.
    """
    if folder and not (Path(folder) / "config.json").is_file():
        raise ConfigError(f"bert_score_model: {folder} is not the folder of a model (it has no config.json)")
    if folder and find_spec("bert_score") is None:
        raise ConfigError("bert_score_model: needs the package bert-score: pip install bert-score")


def bert_score_f1(folder: str, texts: Sequence[str], references: Sequence[str]) -> float:
    """Return the mean F1 over the pairs.

    Args:
        folder: a model with its tokenizer.
        texts: generated texts; an empty text scores 0.
        references: reference texts.
    """
    from bert_score import BERTScorer
    from transformers import AutoConfig

    filled = [place for place, text in enumerate(texts) if text.strip()]
    if not filled:
        return 0.0
    config = AutoConfig.from_pretrained(folder)
    scorer = BERTScorer(model_type=folder, num_layers=config.num_hidden_layers)
    # A tokenizer without a limit reports one that does not fit into 64 bits.
    limit = getattr(config, "max_position_embeddings", 512) - 2
    scorer._tokenizer.model_max_length = min(scorer._tokenizer.model_max_length, limit)
    _, _, f1 = scorer.score([texts[place] for place in filled], [references[place] for place in filled])
    return float(f1.sum()) / len(texts)
