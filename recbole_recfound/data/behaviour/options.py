"""Options of the texts about users and candidates (`text_args`)."""

from __future__ import annotations

from dataclasses import dataclass

from recbole_recfound.runtime.options import Options, option

TRAINING, ONLINE = "training", "online"
ONLINE_ROW = f"{ONLINE} statistics"
"""What is said of a row whose texts count held-out rows before a request."""


@dataclass(frozen=True)
class TextOptions(Options):
    """Texts about users and candidates (`text_args`).

    Attributes:
        behaviours: last interactions of the user in the source. None: 8 for ctr, 20 for retrieval and
            zeroshot.
        user_fields: columns of .user in the profile, and groups of users in the statistics. None: those with numbers or
            at most 100 different values. Empty: none.
        category: column of .item whose values are the categories that a user's choices are counted by. None: the first
            column besides the title whose values are few words, and mostly no numbers.
        max_tokens: length of one segment; a longer text loses its end.
        statistics: rows that statistics of held-out rows are computed from. training: the training rows, as for every
            other model of a table. online: also the validation and test rows before the request, as a server has them;
            such a row of the table must not be compared with models that do not get them.
    """

    behaviours: int | None = option(None, minimum=0)
    user_fields: list[str] | None = option(None)
    category: str | None = option(None)
    max_tokens: int = option(48, minimum=8)
    statistics: str = option(TRAINING, choices=(TRAINING, ONLINE))
