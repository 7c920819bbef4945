"""Settings of the HTTP service: what it takes at once, how much it keeps waiting, and how it is watched.

Every limit answers a way in which one client could make all others wait. Source: issue 7, point 3.
"""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from typing_extensions import Self

from llara_core.errors import ConfigError
from llara_core.search_page_settings import SearchPageSettings
from llara_core.settings import Settings


class LimitSettings(Settings):
    """What one request may hold.

    Args:
        body_bytes: of a request; 413 above it.
        texts: of one ``/embed`` or ``/v1/embeddings``; 422 above it.
        queries: of one ``/search``; 422 above it.
        characters: of one text; 422 above it. What the model cannot read is cut at its length in tokens, so
            this only keeps a book from being sent for its first page.
        k: results of a query; 422 above it.
        snippet: characters of a passage that ``/search`` shows, where the whole text is not asked for.
    """

    body_bytes: PositiveInt = 8 << 20
    texts: PositiveInt = 1024
    queries: PositiveInt = 64
    characters: PositiveInt = 1_000_000
    k: PositiveInt = Field(default=1000, le=100_000)
    snippet: PositiveInt = 300


class QueueSettings(Settings):
    """What waits, and how it is put together.

    Args:
        requests: in the service at once; 429 above it, before a body is read.
        texts: waiting to be encoded; 429 above it.
        batch_texts: encoded together at most. More costs a query the time of others, and gains little: a CPU
            computes ``BATCH_TOKENS`` at a time anyway.
        seconds: that a request may wait and work; 503 after it.
    """

    requests: PositiveInt = 512
    texts: PositiveInt = 4096
    batch_texts: PositiveInt = 64
    seconds: PositiveFloat = 60.0


class SwitchSettings(Settings):
    """How a new champion is taken over.

    Args:
        poll_seconds: between two looks at the pointer; a look is one ``stat``.
        retry_seconds: after a pair that could not be opened; doubles up to ``retry_most_seconds``.
        retry_most_seconds: see there.
    """

    poll_seconds: PositiveFloat = 1.0
    retry_seconds: PositiveFloat = 2.0
    retry_most_seconds: PositiveFloat = 60.0


class ServingSettings(Settings):
    """All of the above, and how the server stands in the network.

    Args:
        limits: of one request.
        queue: of all together.
        switch: to a new champion.
        page: the search page.
        hosts: names by which clients may call the service, ``*`` for any; empty: on the loopback device its
            own names, elsewhere any. A page on the web can make a browser call a name of its own that points
            to 127.0.0.1, and read the answer; it cannot make it call ``localhost``.
        drain_seconds: that requests in flight may take to finish after SIGTERM.
        linger_seconds: that the service goes on answering after SIGTERM while ``/readyz`` says no, so that a
            load balancer stops sending before the door is shut.
        threads: of the CPU for one batch; 0: what PyTorch takes, one a core.
    """

    limits: LimitSettings = LimitSettings()
    queue: QueueSettings = QueueSettings()
    switch: SwitchSettings = SwitchSettings()
    page: SearchPageSettings = SearchPageSettings()
    hosts: tuple[str, ...] = ()
    drain_seconds: PositiveFloat = 30.0
    linger_seconds: NonNegativeFloat = 0.0
    threads: NonNegativeInt = 0

    @model_validator(mode="after")
    def _a_request_fits(self) -> Self:
        most = max(self.limits.texts, self.limits.queries)
        if self.queue.texts < most:
            raise ConfigError(
                f"queue.texts: got {self.queue.texts}, and one request may bring {most}; with less room than "
                "that it would be sent away for ever: raise it, or lower limits.texts and limits.queries"
            )
        return self
