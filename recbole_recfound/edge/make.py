"""From a teacher to a folder that answers without torch."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from recbole_recfound.edge.answer import (
    FORMAT,
    SETTINGS,
    TEXTS,
    TOKENIZER,
    VOCABULARY,
    ExitSession,
    graph_name,
)
from recbole_recfound.edge.distil import RELATION_SHARE, Related, Scored, distil
from recbole_recfound.edge.export import graph_facts, write_exits
from recbole_recfound.edge.measure import agreement, milliseconds, quality, sizes_of, student_scores
from recbole_recfound.edge.options import DistilOptions
from recbole_recfound.edge.report import page_of
from recbole_recfound.edge.student import Student
from recbole_recfound.edge.teacher import TARGETS, Group, Teacher
from recbole_recfound.edge.tokens import Vocabulary
from recbole_recfound.runtime.file_digests import whole_folder

FLOAT, INT8 = "float32", "int8"
REPORT, PAGE = "report.json", "README.md"
REQUEST_SHARE = 3
"""Training rows for each candidate of a request of items alone."""
CANDIDATES = 100
"""Items of a request that graphs are compared on."""
TIMED = 256
"""Items of a request that is timed."""
ROUNDS = 3


class Edge:
    """The making of one student.

    Args:
        teacher: the finished run.
        options: of the student and its training.

    Raises:
        ConfigError: options that do not fit the teacher.
    """

    def __init__(self, teacher: Teacher, options: DistilOptions) -> None:
        self.teacher, self.options = teacher, options
        self.relation_layer = teacher.check_layer(options.relation_layer)
        self.reader = teacher.tokens

    def make(self, out: Path, run: str) -> dict[str, Any]:
        """Train the student, write its folder, and measure both.

        Args:
            out: folder to write; it must not exist.
            run: name of the teacher's run.

        Returns:
            The report.

        Raises:
            TrainingError: a loss is not finite.
        """
        options, teacher = self.options, self.teacher
        generator = np.random.default_rng(options.seed)
        targets = teacher.item_targets()
        history_texts = teacher.history_texts()
        training = teacher.training_groups(options.examples, generator)
        requests = teacher.request_groups(options.examples // REQUEST_SHARE // TARGETS, TARGETS, generator)
        # Every text so far is of the catalogue, of users or of training rows.
        self.vocabulary = Vocabulary.of(self.reader, teacher.texts)
        torch.manual_seed(options.seed)
        student = Student(
            len(self.vocabulary), targets.shape[1], self.vocabulary.ids([self.reader.newline])[0], options
        )
        student.set_embeddings(teacher.embeddings(self.vocabulary.kept))
        related = self._related(training, generator)
        scored = [self._scored(group) for group in (*training, *requests)]
        trained = distil(student, related, scored, options, teacher.show_progress)
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(out) as folder, TemporaryDirectory() as floats:
            write_exits(student, Path(floats), integers=False)
            forms = {FLOAT: Path(floats)}
            if options.int8:
                write_exits(student, folder, integers=True)
                forms[INT8] = folder
            else:
                for layer in student.exits:
                    (folder / graph_name(layer)).write_bytes((Path(floats) / graph_name(layer)).read_bytes())
            self._write_texts(folder, targets, history_texts)
            report = {
                "run": run,
                "name": out.name,
                "form": INT8 if options.int8 else FLOAT,
                "options": asdict(options),
                "vocabulary": len(self.vocabulary),
                "training": trained,
                "student": sizes_of(student),
                **self._measure(student, forms, generator),
                "files": {file.name: file.stat().st_size for file in sorted(folder.iterdir())},
            }
            (folder / REPORT).write_text(json.dumps(report, indent=1), encoding="utf-8")
            (folder / PAGE).write_text(page_of(report), encoding="utf-8")
        return report

    # Examples ---------------------------------------------------------------------------------------------------------

    def _tokens(self, segments: np.ndarray) -> list[int]:
        """Return the tokens of segments in the backbone's vocabulary."""
        texts = self.teacher.texts
        return self.reader.joined([texts[segment] for segment in segments])

    def _scored(self, group: Group) -> Scored:
        ids, pack = self.vocabulary.ids, group.pack
        return Scored(
            ids(self._tokens(pack.source.segments)),
            [ids(self._tokens(target)) for target in pack.targets],
            group.scores,
            group.labels,
        )

    def _related(self, groups: list[Group], generator: np.random.Generator) -> list[Related]:
        """Run texts through the teacher, as many as a part of the time allows."""
        begin, found = time.monotonic(), []
        limit = RELATION_SHARE * self.options.seconds
        order = generator.permutation(len(groups))[: self.options.relation_texts]
        for place in tqdm(order, desc="texts", disable=not self.teacher.show_progress, dynamic_ncols=True):
            pack = groups[place].pack
            source, target = self._tokens(pack.source.segments), self._tokens(pack.targets[0])
            projections = self.teacher.projections(source, target, self.relation_layer)
            found.append(Related(self.vocabulary.ids(source), self.vocabulary.ids(target), projections))
            if time.monotonic() - begin >= limit:
                break
        return found

    # The folder -------------------------------------------------------------------------------------------------------

    def _write_texts(self, folder: Path, targets: np.ndarray, history_texts: tuple[int, int]) -> None:
        """Write what a history and the items are made of, and how it is read."""
        teacher = self.teacher
        used = sorted({*history_texts, *np.unique(targets).tolist()})
        index = {segment: number for number, segment in enumerate(used)}
        items = [
            {
                "token": token,
                "text": index[int(own[0])],  # the candidate's text comes first
                "target": [index[int(segment)] for segment in own],
                "cold": bool(cold),
            }
            for token, own, cold in zip(teacher.items, targets, teacher.cold, strict=True)
        ]
        settings = {
            "format": FORMAT,
            "exits": self.options.exit_layers,
            "behaviours": teacher.behaviours,
            "masks_history": teacher.masks_history,
            "max_tokens": self.reader.max_tokens,
        }
        texts = {
            "segments": [teacher.texts[segment] for segment in used],
            "profile": index[history_texts[0]],
            "behaviour": index[history_texts[1]],
            "items": items,
        }
        self.reader.tokenizer.save(str(folder / TOKENIZER), pretty=False)
        for name, content in ((SETTINGS, settings), (TEXTS, texts), (VOCABULARY, self.vocabulary.kept)):
            (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    # Measures ---------------------------------------------------------------------------------------------------------

    def _measure(self, student: Student, forms: dict[str, Path], generator: np.random.Generator) -> dict[str, Any]:
        """Return quality, speed, size and agreement of the teacher and of all exits."""
        teacher, threads = self.teacher, torch.get_num_threads()
        groups = teacher.test_groups()
        tested = [self._scored(group) for group in groups]
        labels = np.concatenate([group.labels for group in groups])
        compared = [
            self._scored(group) for group in teacher.request_groups(self.options.compared, CANDIDATES, generator)
        ]
        sizes = [len(one.targets) for one in compared]
        own = {form: student_scores(student, compared, rounds=form == INT8) for form in forms}
        of_test = student_scores(student, tested)
        timed = teacher.request_groups(1, TIMED, generator)[0]
        request = self._scored(timed)
        sessions = {
            (layer, form): ExitSession(folder / graph_name(layer), threads)
            for form, folder in forms.items()
            for layer in student.exits
        }
        calls: dict[Any, Callable[[], Any]] = {
            key: partial(session.run, [request.source], [request.targets]) for key, session in sessions.items()
        }
        speeds = milliseconds({"teacher": partial(teacher.score, timed), **calls}, ROUNDS)
        exits = []
        for layer in student.exits:
            facts = {}
            for form, folder in forms.items():
                session = sessions[layer, form]
                scores = session.run([one.source for one in compared], [one.targets for one in compared])
                answers = of_test[layer]
                if form == INT8:
                    answers = session.run([one.source for one in tested], [one.targets for one in tested])
                facts[form] = {
                    **graph_facts(folder / graph_name(layer)),
                    "milliseconds": speeds[layer, form],
                    **quality(answers, labels),
                    "torch": agreement(scores, own[form][layer], sizes),
                    "unrounded": agreement(scores, own[FLOAT][layer], sizes),
                }
            weights = student.parameters_of(layer)
            sizes_of_exit = {
                "parameters": sum(weight.numel() for weight in weights),
                "nonzero": sum(int(weight.count_nonzero()) for weight in weights),
            }
            exits.append({"layer": layer, **sizes_of_exit, "forms": facts})
        teachers = np.concatenate([one.scores for one in compared])
        return {
            "teacher": {
                "parameters": sum(weight.numel() for weight in teacher.model.parameters()),
                "milliseconds": speeds["teacher"],
                **quality(np.concatenate([group.scores for group in groups]), labels),
            },
            "exits": exits,
            "tested": len(labels),
            "request": {"candidates": len(request.targets), "threads": threads, "rounds": ROUNDS},
            "compared": {
                "histories": len(compared),
                "candidates": max(sizes),
                "teacher_top": agreement(own[[*forms][-1]][student.exits[-1]], teachers, sizes)["common_top"],
            },
        }
