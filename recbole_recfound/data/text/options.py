"""Options of item representations (`item_args`)."""

from __future__ import annotations

from dataclasses import dataclass

from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.options import Options, option


@dataclass(frozen=True)
class ItemOptions(Options):
    """Text and representation of items (`item_args`).

    Attributes:
        id_field: column of .item with the ids of the interactions. None: that of the interactions (ITEM_ID_FIELD).
        read_file: read .item; if not, an item's text is its id.
        candidates: items that tasks are about, as targets, negatives and choices: those with a training interaction
            (`trained`), or also those that only .item has (`all`).
        text_fields: columns of .item that describe an item. None: the title first, then short text columns.
        max_tokens: length of one item's text.
        use_text: text features take part in the item table.
        use_id: a learned vector per item takes part in the item table.
        id_scale: initial size of an id vector's entries, where those of the text are about 1.
        factors: collaborative factors of the training rows in the item table; 0: none.
        text_alone: share of the items, drawn for each batch, that have neither id nor factors in training, as new items
            have none; where there is no text, none.
        refresh_interval: steps between two encodings of all item texts with the current adapter; the change is added to
            the plain backbone's features. 0: these alone, which is best for short trainings.
    """

    id_field: str | None = option(None)
    read_file: bool = option(True)
    candidates: str = option("trained", choices=("trained", "all"))
    text_fields: list[str] | None = option(None)
    max_tokens: int = option(64, minimum=1)
    use_text: bool = option(True)
    use_id: bool = option(True)
    id_scale: float = option(0.02, above=0)
    factors: int = option(64, minimum=0)
    text_alone: float = option(0.5, minimum=0, below=1)
    refresh_interval: int = option(0, minimum=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.use_text or self.use_id):
            raise ConfigError("item_args: use_text and use_id are both False: an item needs its text, its id, or both")
