"""The licence of a backbone's weights."""

from pathlib import Path

from huggingface_hub import ModelCard

from recbole_recfound.backbone.bundled import BUNDLED

UNKNOWN = "unknown"
OF_BUNDLED = "apache-2.0"


def licence_of(name: str) -> str:
    """Return the licence as the model card beside the weights names it, without asking the network.

    Args:
        name: name or folder of a backbone.

    Returns:
        An identifier of the hub, such as `apache-2.0`; `unknown` where no card is at hand.
    """
    if name == BUNDLED:
        return OF_BUNDLED
    card = Path(name) / "README.md"
    if not card.is_file():
        return UNKNOWN
    try:
        return str(ModelCard.load(card).data.get("license") or UNKNOWN)
    except (OSError, ValueError):
        return UNKNOWN
