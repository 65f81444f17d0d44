"""The thirteen tasks of RecFound: names, ids, kinds (RecFound table of tasks)."""

from dataclasses import dataclass

EMBEDDING = "embedding"
GENERATIVE = "generative"
RANKED = 20
"""Candidates of an embedding task's test, the right answer and 19 others; its metrics are MRR@20 and NDCG@20."""


@dataclass(frozen=True)
class TaskSpec:
    """What is fixed about a task, whatever data it is built from.

    Attributes:
        name: short name used in configs and tables.
        id: row of TMoLE's task table.
        kind: `embedding` or `generative`; decides which experts are open.
        title: what it is, for reports.
        record: its name in the published JSON-lines records.
    """

    name: str
    id: int
    kind: str
    title: str
    record: str


TASKS: dict[str, TaskSpec] = {
    spec.name: spec
    for spec in (
        TaskSpec("U2I", 0, EMBEDDING, "user behaviours to item", "Emb_user"),
        TaskSpec("Q2I", 1, EMBEDDING, "query to item", "Emb_query"),
        TaskSpec("I2I", 2, EMBEDDING, "item to item", "Emb_item"),
        TaskSpec("QR", 3, GENERATIVE, "query rewriting", "Query_Rewriting"),
        TaskSpec("SR", 4, GENERATIVE, "sequential recommendation", "Sequential_Recommendation"),
        TaskSpec("PRP", 5, GENERATIVE, "product relation prediction", "Product_Relation_Prediction"),
        TaskSpec("SA", 6, GENERATIVE, "sentiment analysis", "Sentiment_Analysis"),
        TaskSpec("AVE", 7, GENERATIVE, "attribute value extraction", "Attribute_Value_Extraction"),
        TaskSpec("PM", 8, GENERATIVE, "product matching", "Product_Matching"),
        TaskSpec("UP", 9, GENERATIVE, "user profile generation", "user_profile"),
        TaskSpec("IP", 10, GENERATIVE, "item profile generation", "item_profile"),
        TaskSpec("AP", 11, GENERATIVE, "answerability prediction", "Answerability_Prediction"),
        TaskSpec("AG", 12, GENERATIVE, "answer generation", "Answer_Generation"),
    )
}
