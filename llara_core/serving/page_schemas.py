"""What the routes behind the search page take and give."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from llara_core.serving.schemas import Body, ErrorResponse, Text
from llara_core.serving.waiting import State

NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorResponse, "description": "There is no such system or passage."}
}
PIECES = "The text in pieces, each with whether it is a word of the query; put together they are the text."


class SystemFacts(BaseModel):
    """A system that can be compared."""

    id: str = Field(description="What to ask for: `champion`, `bm25` or the name of a generation.")
    label: str
    state: State = Field(description="`ready` answers at once; `closed` is opened when it is asked for.")
    version: str
    pair: str
    created: str
    documents: int
    same_corpus: bool = Field(description="Whether it searches the passages that the champion searches.")
    message: str


class SystemsResponse(BaseModel):
    """What can be compared."""

    systems: list[SystemFacts]
    collection: str = Field(description="Name of the champion's collection; empty: it carries no texts.")
    judged_queries: int = Field(description="Queries of the collection whose answers are known.")
    open_generations: int = Field(description="How many generations one comparison may name.")


class CompareRequest(Body):
    """One query for several systems."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"query": "read a file line by line", "systems": ["champion", "bm25"], "k": 5},
            ]
        }
    )
    query: Text
    systems: list[Text] = Field(default=["champion", "bm25"], min_length=1, max_length=16)
    k: int = Field(default=10, ge=1, strict=True, description="Passages of each system.")


class Result(BaseModel):
    """A passage that was found."""

    rank: int
    score: float = Field(description="Cosine of query and passage, or BM25's sum of weights.")
    id: str
    title: list[tuple[str, bool]] = Field(description=PIECES)
    snippet: list[tuple[str, bool]] = Field(description=f"The part with most words. {PIECES}")
    before: bool = Field(description="Whether text was left out before the snippet.")
    after: bool = Field(description="Whether text was left out behind it.")
    grade: int | None = Field(description="Of the judgement, 0 being no answer; null: nobody judged it.")
    known: bool = Field(description="False: the texts at hand do not hold this passage.")


class Column(BaseModel):
    """What one system answers."""

    system: str
    state: State = Field(description="Only with `ready` there are results.")
    message: str = Field(description="Why there are none yet, or what else is to be known.")
    retry_after: float | None = Field(description="Seconds after which to ask again; null: there is no use.")
    results: list[Result]
    encode_ms: float | None = Field(description="Null: it needs no vector.")
    search_ms: float | None
    ndcg_at_10: float | None = Field(
        description="Of these results; null: the query is not judged, or k < 10."
    )


class CompareResponse(BaseModel):
    """Columns in the order of the systems asked."""

    judged: int | None = Field(description="Passages known to answer the query; null: it is not judged.")
    columns: list[Column]


class PassageResponse(BaseModel):
    """A passage, whole."""

    id: str
    title: list[tuple[str, bool]] = Field(description=PIECES)
    text: list[tuple[str, bool]] = Field(description=PIECES)
    characters: int
    grade: int | None


class ExamplesResponse(BaseModel):
    """Judged queries to begin with."""

    queries: list[str]
