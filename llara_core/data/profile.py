"""What a collection looks like in numbers, small enough to keep: sizes, lengths, words, languages, sketches.

Two profiles are enough to say how one version of a collection differs from the version before, without
either collection at hand (``drift``). Both are plain JSON. Issue 5, points 4 and 9.

Memory stays flat: texts are looked at some megabytes at a time, and what is kept of a document is a hash of
8 bytes, to count distinct texts and to draw samples. Words and languages are taken from a sample that is
drawn by these hashes: the same documents are drawn whatever the order of rows, and what two versions share
is drawn in both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llara_core.data.collection import Collection
from llara_core.data.languages import languages
from llara_core.data.profile_drift import SCHEMA, check_profile, drift
from llara_core.data.profile_sketch import pack, slices, text_hashes
from llara_core.data.profile_text import CUT, Lengths, Vocabulary, characters, words
from llara_core.errors import DataError
from llara_core.progress import Progress

__all__ = ["SCHEMA", "check_profile", "drift", "profile"]

SKETCH = 8192  # smallest hashes kept: the share of new documents is then known to 1.1 points (95%)
VOCABULARY_SAMPLE = 100_000  # documents whose words are counted
CLOSE_SAMPLE = 2_000  # documents whose language is guessed and whose tokens are counted

_SPACE = pa.scalar(" ", pa.large_string())
Counter = Callable[[Sequence[str]], Sequence[int]]


def profile(collection: Collection, *, count_tokens: Counter | None = None) -> dict[str, Any]:
    """Describe a collection by numbers that a later version can be compared with.

    Args:
        collection: N documents, Q queries and judgements; may be memory-mapped.
        count_tokens: texts → tokens of each, e.g. by the model's tokenizer; asked about a sample only.
            None: lengths are told in characters and words.

    Returns:
        Plain JSON values, the same for the same content in any order of rows:
        ``schema`` (1), ``name``, ``content_hash``, ``documents`` (N), ``queries`` (Q), ``judgements``
        (split → rows); ``corpus`` and ``query_texts``, each with ``rows``, ``distinct`` (texts, byte for
        byte), ``empty``, ``characters`` and ``words``, of which each has ``mean``, ``least``, ``most``,
        ``total``, ``quantiles`` ("0.01" … "0.99" → length) and ``histogram`` (``edges`` [B + 1],
        ``counts`` [B], ``beyond``: how many are longer than the last edge);
        ``splits`` (split → ``judgements``, ``queries``, ``documents``, ``relevant``, ``grades``);
        ``vocabulary`` (``documents`` sampled, ``words``, ``top`` [[word, count] …], ``buckets``: packed
        counts uint32 [16384] by hash of the word, see ``profile_text.Vocabulary``);
        ``languages`` (``available``, ``documents``, ``shares``; why not, where the detector is absent);
        ``sketch`` (``size``, ``hashes``: the smallest 8192 hashes of distinct texts, packed, ``all``:
        whether they are all there are);
        ``tokens`` (as ``words``, of a sample, with ``documents``; None without ``count_tokens``).

    Source: bottom-k sketches: Cohen and Kaplan, "Summarizing data using bottom-k sketches", PODC 2007.
    """
    corpus, distinct = _texts(collection.corpus, ("title", "text"), "profile documents")
    queries, _ = _texts(collection.queries, ("text",), "profile queries")
    vocabulary, close = _sample(collection.corpus, distinct)
    return {
        "schema": SCHEMA,
        "name": collection.name,
        "content_hash": collection.content_hash,
        "documents": collection.corpus.num_rows,
        "queries": collection.queries.num_rows,
        "judgements": {split: table.num_rows for split, table in sorted(collection.qrels.items())},
        "corpus": corpus,
        "query_texts": queries,
        "splits": {split: _split(table) for split, table in sorted(collection.qrels.items())},
        "vocabulary": vocabulary.to_dict(),
        "languages": languages(close),
        "sketch": {"size": SKETCH, "hashes": pack(distinct[:SKETCH]), "all": len(distinct) <= SKETCH},
        "tokens": None if count_tokens is None else _tokens(close, count_tokens),
    }


def _texts(table: pa.Table, columns: Sequence[str], stage: str) -> tuple[dict[str, Any], NDArray[np.uint64]]:
    """Lengths and counts of the texts of a table, and the hashes of its distinct texts, sorted."""
    hashes = np.zeros(table.num_rows, np.uint64)
    in_characters, in_words, empty, start = Lengths(), Lengths(), 0, 0
    with Progress(stage, total=table.num_rows, unit="rows") as bar:
        for batch in slices(table, columns):
            texts = _joined(batch)
            hashes[start : start + len(texts)] = text_hashes(batch.columns)
            start += len(texts)
            lengths = characters(texts)
            in_characters.add(lengths)
            in_words.add(words(texts))
            empty += int((lengths == 0).sum())
            bar.update(len(texts))
    hashes.sort()
    first = np.ones(len(hashes), np.bool_)
    np.not_equal(hashes[1:], hashes[:-1], out=first[1:])
    distinct = hashes[first]
    facts = {
        "rows": table.num_rows,
        "distinct": len(distinct),
        "empty": empty,
        "characters": in_characters.to_dict(),
        "words": in_words.to_dict(),
    }
    return facts, distinct


def _joined(batch: pa.RecordBatch) -> pa.Array:
    """Texts as ``passage_text`` makes them, large strings [N]."""
    parts = [pc.fill_null(column.cast(pa.large_string()), "") for column in batch.columns]
    if len(parts) == 1:
        return parts[0]
    title, text = parts
    both = pc.utf8_trim_whitespace(pc.binary_join_element_wise(title, text, _SPACE))
    return pc.if_else(pc.equal(title, ""), text, both)


def _sample(table: pa.Table, distinct: NDArray[np.uint64]) -> tuple[Vocabulary, list[str]]:
    """Words of the texts with the smallest hashes, each text once; and the few smallest as they are."""
    wanted = distinct[:VOCABULARY_SAMPLE]
    vocabulary, close = Vocabulary(), dict[int, str]()
    if not len(wanted):
        return vocabulary, []
    taken = np.zeros(len(wanted), np.bool_)
    for batch in slices(table, ("title", "text")):
        hashes = text_hashes(batch.columns)
        rows = np.flatnonzero(hashes <= wanted[-1])
        places, first = np.unique(np.searchsorted(wanted, hashes[rows]), return_index=True)
        new = ~taken[places]
        taken[places[new]] = True
        texts = pc.utf8_slice_codeunits(_joined(batch.take(pa.array(rows[first[new]]))), 0, CUT)
        vocabulary.add(texts)
        for row in np.flatnonzero(places[new] < CLOSE_SAMPLE).tolist():
            close[int(places[new][row])] = texts[row].as_py()
    return vocabulary, [close[place] for place in sorted(close)]


def _split(table: pa.Table) -> dict[str, Any]:
    """What a split's judgements count."""
    relevant = table.filter(pc.greater(table["score"], 0))
    grades = pc.value_counts(table["score"])
    counts = zip(grades.field("values").to_pylist(), grades.field("counts").to_pylist(), strict=True)
    return {
        "judgements": table.num_rows,
        "queries": pc.count_distinct(table["query_id"]).as_py(),
        "documents": pc.count_distinct(table["corpus_id"]).as_py(),
        "relevant": relevant.num_rows,
        "grades": {str(grade): count for grade, count in sorted(counts, key=lambda one: one[0] or 0)},
    }


def _tokens(texts: Sequence[str], count_tokens: Counter) -> dict[str, Any]:
    lengths = Lengths()
    counted = list(count_tokens(texts)) if texts else []
    if len(counted) != len(texts):
        raise DataError(f"count_tokens gave {len(counted)} numbers for {len(texts)} texts; give one a text")
    lengths.add(np.array(counted, np.int64))
    return {"documents": len(texts), **lengths.to_dict()}
