"""`recfound distill`: a small student of a text model, for devices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from recbole_recfound.cli.words import Words, load, whole
from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.whole_file import check_folder

if TYPE_CHECKING:
    from recbole_recfound.serving.segments import SegmentRecommender

ABOUT = "Distil a click model that reads text into a small student: shared layers, early exits, zeros, 8 bits, ONNX."


def command(argv: list[str]) -> int:
    """Write a folder for `recfound edge` and print the table of teacher and exits.

    Args:
        argv: the words after the verb.

    Returns:
        0.

    Raises:
        ConfigError: a teacher of another kind, wrong options, a folder that exists or cannot be written, or a missing
            package.
        DataError: data or files are missing or damaged.
        TrainingError: the loss is not finite.
    """
    words = Words("distill", ABOUT)
    words.add_argument("--out", required=True, help="folder to write; it must not exist")
    words.add_argument("--layers", type=whole, help="layers of the student (default: 4)")
    words.add_argument("--width", type=whole, help="width of its states, a multiple of 32 (default: 128)")
    words.add_argument("--share_layers", action="store_true", help="one set of parameters for all layers")
    words.add_argument("--embedding_size", type=whole, help="width of its token embeddings (default: 128)")
    words.add_argument("--exits", help="layers that can answer, with commas (default: 1, 2, 4, ... and the last)")
    words.add_argument("--exit_weights", help="weights of their losses: linear (default) or printed")
    words.add_argument("--sparsity", type=float, help="share of zeros in every matrix but the head (default: 0)")
    words.add_argument("--int8", action="store_true", help="write 8-bit weights")
    words.add_argument("--seconds", type=float, help="of the training; reading and measuring come on top (300)")
    words.add_argument("--steps", type=whole, help="most optimiser steps of each part (default: as the time allows)")
    words.add_argument("--examples", type=whole, help="training rows with the teacher's scores (default: 8000)")
    words.add_argument("--relation_texts", type=int, help="texts with the teacher's relations, at most (default: 128)")
    words.add_argument("--relation_layer", type=whole, help="layer of the teacher (default: the last one)")
    words.add_argument("--learning_rate", type=float, help="at its highest (default: 0.0005)")
    words.add_argument("--compared", type=whole, help="histories on which graphs are compared (default: 24)")
    words.add_argument("--seed", type=int, help="of the student and its examples (default: 2020)")
    words.add_argument("--backbone", help="name or folder of the teacher's backbone (default: that of the run)")
    words.add_argument("--data_path", help="where data sets lie (default: where they were for the run)")
    words.set_defaults(cold_items=False)
    given = words.parse_args(argv)
    out = Path(given.out)
    if out.exists():
        raise ConfigError(f"out: {out} exists already: name a new folder")
    check_folder(out.absolute().parent, "out")
    if given.exits is not None:
        given.exits = _layers(given.exits)
    from recbole_recfound.edge.options import DistilOptions
    from recbole_recfound.runtime.graph_files import WRITERS, check_packages

    named = {name: value for name in DistilOptions.names() if (value := getattr(given, name)) is not None}
    options = DistilOptions.of(named, "distill")
    check_packages("distill", (*WRITERS, "onnxruntime"))
    from recbole_recfound.edge.make import Edge
    from recbole_recfound.edge.report import table_of
    from recbole_recfound.edge.teacher import Teacher, check_teacher

    check_teacher(given.run)
    run = cast("SegmentRecommender", load(given))
    edge = Edge(Teacher(run.model, run.splits, show_progress=True), options)
    report = edge.make(out, Path(given.run).name)
    print(table_of(report))
    print(f'{out}: recfound edge {out} --history "TOKEN,TOKEN"; {out / "README.md"} has the details')
    return 0


def _layers(text: str) -> list[int]:
    """Return the layers of a text with commas."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise ConfigError(f"exits: got {text}, expected layers with commas: 1,2,4")
    return [int(part) for part in parts]
