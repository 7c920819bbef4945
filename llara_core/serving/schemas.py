"""What the routes take and give, as the OpenAPI description tells it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Self

Kind = Literal["query", "passage"]
# Checked against the limits of the settings by the routes; what is never right is refused here.
Text = Annotated[str, StringConstraints(strict=True)]
Texts = Annotated[list[Text], Field(min_length=1)]


class Body(BaseModel):
    """A request: unknown fields are refused, so that a misspelt one is not silently without effect."""

    model_config = ConfigDict(extra="forbid")


class EmbedRequest(Body):
    """Texts to encode."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"texts": ["read a file line by line"], "kind": "query"}]}
    )
    texts: Texts = Field(description="Texts; the empty one is allowed.")
    kind: Kind = Field(
        description="What the texts are: a model of this kind encodes queries and passages differently."
    )


class EmbedResponse(BaseModel):
    """Vectors in the order of the texts."""

    vectors: list[list[float]] = Field(description="L2-normalised; float32, exactly.")
    dimension: int
    kind: Kind
    tokens: int = Field(description="Tokens computed, prompt and slots included.")
    cut: int = Field(description="How many texts were longer than the model reads, and were cut.")
    pair: str = Field(description="Name of what serves.")
    version: str = Field(description="Number in the registry; empty where it has none.")
    fingerprint: str = Field(description="Of the model: vectors of different fingerprints do not mix.")


class SearchRequest(Body):
    """One query, or several at once."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"query": "read a file line by line", "k": 5},
                {"queries": ["parse a date", "sort a list by two keys"], "k": 3, "full_text": True},
            ]
        }
    )
    query: Text | None = Field(default=None, description="Either this or `queries`.")
    queries: Texts | None = Field(default=None, description="Either this or `query`.")
    k: int = Field(default=10, ge=1, strict=True, description="Results of each query.")
    full_text: bool = Field(
        default=False, strict=True, description="Whole passages instead of their beginnings."
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.query is None) == (self.queries is None):
            raise PydanticCustomError("query_or_queries", "expected either `query` or `queries`")
        return self

    @property
    def asked(self) -> list[str]:
        """The queries."""
        return self.queries if self.queries is not None else [self.query or ""]


class Hit(BaseModel):
    """A passage that was found."""

    rank: int
    score: float = Field(description="Cosine of query and passage.")
    id: str
    title: str | None = Field(description="null: what serves holds no texts.")
    text: str | None = Field(description="The beginning, or the whole; null: what serves holds no texts.")
    cut: bool = Field(description="Whether the text is only its beginning.")


class QueryResults(BaseModel):
    """What one query has found."""

    hits: list[Hit]
    cut: bool = Field(description="Whether the query was longer than the model reads.")


class Took(BaseModel):
    """Milliseconds."""

    encode_ms: float = Field(
        description="From the arrival of the queries to their vectors, waiting included."
    )
    search_ms: float
    total_ms: float


class SearchResponse(BaseModel):
    """Results in the order of the queries."""

    results: list[QueryResults]
    took: Took
    documents: int = Field(description="That were searched.")
    pair: str
    version: str
    fingerprint: str


class OpenAIRequest(BaseModel):
    """OpenAI's request, with one field more; its fields that have no meaning here are taken and ignored."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"examples": [{"model": "llara-retriever", "input": ["read a file line by line"]}]},
    )
    input: Text | Texts = Field(description="A text, or a list of texts; lists of tokens are refused.")
    model: str = Field(default="", description="Any name; what answered stands in the answer.")
    encoding_format: Literal["float", "base64"] = "float"
    input_type: Kind | None = Field(
        default=None,
        description="What the texts are; not OpenAI's. Clients that cannot send it end the name of the model "
        "with `:query` or `:passage`. Without either: query.",
    )
    dimensions: int | None = Field(default=None, description="Refused, unless it is the model's own.")

    @field_validator("input", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        """Say in one sentence what a union would say in four."""
        parts = value if isinstance(value, list) else [value]
        if parts and all(isinstance(part, str) for part in parts):
            return value
        if parts and all(isinstance(part, (int, list)) for part in parts):
            raise PydanticCustomError(
                "tokens_refused",
                "expected a text or a list of texts, got tokens: only the service knows the model's prompt "
                "and tokenizer, and tokens of another one would give vectors without a meaning",
            )
        raise PydanticCustomError("no_texts", "expected a text, or a list of at least one text")

    @property
    def kind(self) -> Kind:
        """What the texts are."""
        if self.input_type is not None:
            return self.input_type
        return "passage" if self.model.endswith(":passage") else "query"


class OpenAIEmbedding(BaseModel):
    """One vector."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens computed."""

    prompt_tokens: int
    total_tokens: int


class OpenAIResponse(BaseModel):
    """OpenAI's answer."""

    object: Literal["list"] = "list"
    data: list[OpenAIEmbedding]
    model: str
    usage: Usage


class OpenAIModel(BaseModel):
    """A model of OpenAI's list."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    fingerprint: str
    dimension: int


class OpenAIModels(BaseModel):
    """OpenAI's list of models: the one that serves."""

    object: Literal["list"] = "list"
    data: list[OpenAIModel]


class ErrorFacts(BaseModel):
    """Why."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorResponse(BaseModel):
    """Why a request was refused; the shape of OpenAI's errors on all routes."""

    error: ErrorFacts


class Health(BaseModel):
    """Whether the process lives, or is ready."""

    status: str
    pair: str | None = None
    reason: str | None = None


_WORDS = {
    408: "The body did not arrive in time.",
    400: "The request cannot be read, or is not for this service.",
    401: "No key, or a wrong one.",
    404: "There is none of that name.",
    409: "What serves has nothing to search.",
    413: "The body is larger than the service takes.",
    415: "The body is not JSON.",
    422: "A field is wrong; `param` says which.",
    429: "Too much waits already; try again after `Retry-After` seconds.",
    500: "The service is at fault.",
    503: "Nothing serves yet, it took too long, or the service is being shut down.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The description of error answers, for a route."""
    described: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        described[status] = {"model": ErrorResponse, "description": _WORDS[status]}
    return described


POST_ERRORS = errors(400, 401, 408, 413, 415, 422, 429, 500, 503)
GET_ERRORS = errors(400, 401, 429, 500)
