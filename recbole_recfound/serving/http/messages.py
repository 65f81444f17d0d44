"""What the server reads and answers, with the limits of every value."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, StrictStr

MOST_TOKENS, MOST_ITEMS, MOST_K = 10_000, 1_000, 1_000
LONGEST_TOKEN, LONGEST_TEXT = 256, 20_000
MOST_FIELDS, MOST_NEW_TOKENS = 64, 1_000


def _whole(number: Any) -> Any:
    """Return 5.0 as 5: for JSON Schema, in which the server describes itself, it is an integer."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


Token = Annotated[StrictStr, Field(max_length=LONGEST_TOKEN)]
Tokens = Annotated[list[Token], Field(max_length=MOST_TOKENS)]
Text = Annotated[StrictStr, Field(max_length=LONGEST_TEXT)]
Value = Text | StrictInt | float | bool | None
Entry = Text | StrictInt | float
Slot = Entry | Annotated[list[Entry | Annotated[list[Entry], Field(max_length=2)]], Field(max_length=MOST_TOKENS)]


class Message(BaseModel):
    """A body; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class RecommendRequest(Message):
    """Items for a history, a known user or a text."""

    history: Tokens | None = Field(None, description="item tokens, oldest first")
    user: Token | None = Field(None, description="token of a known user, instead of a history")
    query: Text | None = Field(None, description="free text, instead of a history")
    k: Annotated[StrictInt, Field(ge=1, le=MOST_K), BeforeValidator(_whole)] = Field(10, description="most items")
    exclude: Tokens = Field([], description="item tokens that are left out")
    candidates: Tokens | None = Field(None, description="item tokens to choose from")
    domains: dict[Token, Token | None] | None = Field(None, description="domain of each type, for a run with kernels")
    task: Token | None = Field(None, description="task that ranks, for a run with several; the first if absent")
    model: Token | None = Field(None, description="a baseline of the run instead of its own model")


class Item(Message):
    """A recommended item."""

    item: str
    text: str
    score: float


class RecommendAnswer(Message):
    """Best items first."""

    items: list[Item]


class AddRequest(Message):
    """New items, or those of `.item` without interactions."""

    items: Annotated[
        list[Annotated[dict[Token, Value], Field(max_length=MOST_FIELDS)]], Field(min_length=1, max_length=MOST_ITEMS)
    ] = Field(description="the id field and columns of .item for each item")


class AddAnswer(Message):
    """How many were added."""

    added: int
    items: int = Field(description="items that can be recommended now")


class GenerateRequest(Message):
    """A generative task and the slots of its prompt."""

    task: Token
    max_new_tokens: Annotated[StrictInt, Field(ge=1, le=MOST_NEW_TOKENS), BeforeValidator(_whole)] | None = Field(
        None, description="longest answer in tokens, where any text is one; the run's if absent"
    )
    fields: Annotated[dict[Token, Slot], Field(max_length=MOST_FIELDS)] = Field(
        {}, description="slots of its prompt: texts, item tokens, lists of them, or pairs of item token and rating"
    )


class GenerateAnswer(Message):
    """The answer of the model."""

    answer: str


class SearchRequest(Message):
    """Words to look for, as parameters of the address."""

    # Servers and browsers limit the length of an address.
    query: Annotated[str, Field(max_length=LONGEST_TOKEN)] = Field("", description="words of the text, or the token")
    limit: Annotated[int, Field(ge=1, le=100)] = Field(20, description="most items")


class SearchAnswer(Message):
    """Items whose text holds all words of a query."""

    items: list[dict[str, str]]


class Health(Message):
    """The state of the server."""

    status: str
    model: str
    dataset: str
    items: int
    waiting: int
    tasks: list[str]
    baselines: list[str]
    item_field: str
    columns: list[str] = Field(description="columns that describe an item")


class Problem(BaseModel):
    """What is wrong with a request, in one line."""

    error: str
