"""Options of prompts, adapters and late interaction (`option_args`, `late_args`)."""

from __future__ import annotations

from dataclasses import dataclass

from recbole_recfound.backbone.segments import ALL, LAST, MEAN
from recbole_recfound.data.writing.records import FROM_CATALOGUE
from recbole_recfound.model import late
from recbole_recfound.runtime.options import Options, option

OPTION_ADAPTER, OPTION, PROMPT, ADAPTER = "option-adapter", "option", "prompt", "adapter"
LORA, FINE_TUNING = "lora", "fine-tuning"
TUNINGS = (OPTION_ADAPTER, OPTION, PROMPT, ADAPTER, LORA, FINE_TUNING)


@dataclass(frozen=True)
class PromptOptions(Options):
    """Option tuning (`option_args`).

    Attributes:
        tuning: what is trained, a row of the table for each (M6-Rec, section 4). option-adapter: prompts, of which the
            last are the classifier, and adapters. option: without adapters. prompt: prompts, with the language model's
            own vectors of "yes" and "no" as a fixed classifier. adapter: adapters and a classifier, without prompts
            before the text. lora: a classifier and a LoRA on the attention of the joint layers, of the smallest rank
            with no fewer parameters than option-adapter. fine-tuning: all weights of the joint layers and a classifier.
            With `pooling: mean` each of them has a learned difference from its classifier for each kind of segment.
        prompts: soft prompts before the source; the last two are the classifier.
        bottleneck: width of the adapters beside the MLPs of the joint layers. 0: option tuning without adapters.
        probe_rows: training rows that the classifier is fitted on before training, by a logistic regression; fewer
            where 40% of the time left is over (the fit comes on top), or their states fill 3 GiB. 0: it starts at
            random, the paper's form.
    """

    tuning: list[str] = option([OPTION_ADAPTER], choices=TUNINGS)
    prompts: int = option(16, minimum=2)
    bottleneck: int = option(64, minimum=0)
    probe_rows: int = option(80000, minimum=0)


@dataclass(frozen=True)
class LateOptions(Options):
    """Late interaction (`late_args`).

    Attributes:
        joint_layers: last layers, which see source and candidate together; the layers below see single segments.
        states: states of a segment that the joint layers see. all: of all tokens, the paper's form. last: of the last
            token, which has seen the others; a tenth of the work. mean: their mean, as cheap. None: last for ctr, mean
            for retrieval.
        pooling: states of a candidate that are classified after the joint layers. mean: the mean of those of each
            segment, read with vectors of its kind. last: the last one of all, the paper's form, to which the frozen
            attention carries little of the statistics; the last prompts alone then classify it (with `tuning: prompt`
            the fixed vectors).
        targets: candidates of one user that share a source in training and scoring.
        cache_megabytes: memory of the states of segments; the least recently used go first.
        cache_file: safetensors file from which the trainings of a run read these states and to which they add their
            own, for the next run with the same backbone; of the form (`states`) that the first trained task reads.
            None: every run computes them.
    """

    joint_layers: int = option(1, minimum=1)
    states: str | None = option(None, choices=(ALL, LAST, MEAN))
    pooling: str = option(late.MEAN, choices=(late.MEAN, late.LAST))
    targets: int = option(20, minimum=1)
    cache_megabytes: int = option(1024, minimum=1)
    cache_file: str | None = option(None)


@dataclass(frozen=True)
class RetrievalOptions(Options):
    """Two towers (`retrieval_args`).

    Attributes:
        width: of the vectors of users and items; the paper has 128.
        temperature: of the cosines of these vectors in the softmax over items.
        targets: next items of a user that one source is to find.
        negatives: items of the training rows drawn for each step, besides those of the batch; all, if they are fewer.
        start_epochs: epochs in which the linear maps are fitted to the states of the untrained model, before training.
            0: they start at random.
    """

    width: int = option(256, minimum=1)
    temperature: float = option(0.1, above=0)
    targets: int = option(5, minimum=1)
    negatives: int = option(2048, minimum=0)
    start_epochs: int = option(30, minimum=0)


MEAN_SCORE, SUM_SCORE, GHOST_SCORE, PMI_SCORE = "mean", "sum", "ghost", "pmi"
SCORES = (MEAN_SCORE, SUM_SCORE, GHOST_SCORE, PMI_SCORE)


@dataclass(frozen=True)
class ZeroShotOptions(Options):
    """Ranking without training (`zeroshot_args`).

    Attributes:
        scores: of a title, a row of the table each. mean: of its tokens' log-likelihoods. sum: of all. ghost: the mean
            without tokens that are nearly certain. pmi: the mean less `alpha` times the mean
            without profile and history, so that each title is read once for it.
        alpha: see pmi.
    """

    scores: list[str] = option(list(SCORES), choices=SCORES)
    alpha: float = option(1.0, minimum=0)


@dataclass(frozen=True)
class GenerateOptions(Options):
    """Writing of texts (`generate_args`).

    Attributes:
        max_tokens: most tokens of a text; longer targets lose their end.
        from_items: tasks whose examples are made from the items of training rows, where `task_files` has none of them.
            design: a title from the other texts. query: words of these texts from the title. Empty: records alone.
        held_out: share of titles that are kept from training for validation, and as many for the test.
        most: held-out titles of each part.
    """

    max_tokens: int = option(48, minimum=1)
    from_items: list[str] = option(list(FROM_CATALOGUE), choices=FROM_CATALOGUE, empty=True)
    held_out: float = option(0.1, above=0, below=0.5)
    most: int = option(200, minimum=1)
