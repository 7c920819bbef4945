"""Settings of the search page: what one visitor may ask for, and what is held open for all of them."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt

from llara_core.config import Bm25Settings
from llara_core.settings import Settings


class SearchPageSettings(Settings):
    """The page that `llara serve` shows.

    Args:
        enabled: False: neither the page nor the routes behind it.
        results: most passages of each system in one comparison.
        query_length: most characters of a query; a page of text, and far beyond what a model reads of it.
        open_generations: generations of the live store held open beside the champion, each with the memory
            of its model. The one that was not used for the longest time makes room.
        waiting: comparisons that may wait for the page's one worker; more are told to come again (429).
        seconds: that a comparison may wait and work; 503 after it.
        bm25: how the lexical column is scored and how words are matched.
    """

    enabled: bool = True
    results: PositiveInt = Field(50, le=1000)
    query_length: PositiveInt = Field(4000, le=100_000)
    open_generations: PositiveInt = Field(2, le=64)
    waiting: PositiveInt = Field(16, le=10_000)
    seconds: PositiveFloat = 30.0
    bm25: Bm25Settings = Bm25Settings(split_identifiers=True)
