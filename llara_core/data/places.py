"""Places that data lie in, and reading them: the one door of everything that reads files or stores.

A place is a local path, a member of a zip (``sets/scifact.zip/scifact/corpus.jsonl``) or an fsspec URL
(``s3://``, ``gs://``, ``hdfs://``, ``memory://``, ``https://``), plain, ``.gz``, ``.xz`` or ``.zst``.
``places_where`` names places, ``places_open`` and ``places_unpack`` open them, ``places_files`` lists
them, ``places_lines`` reads their rows. Issue 5, points 1 and 8.
"""

from __future__ import annotations

from llara_core.data.places_files import (
    exists,
    is_file,
    is_folder,
    list_files,
    place_fingerprint,
    plain_or_packed,
)
from llara_core.data.places_lines import (
    DEEPEST,
    LONGEST,
    parse_json,
    read_json_lines,
    read_lines,
    read_rows,
)
from llara_core.data.places_open import open_place, open_seekable
from llara_core.data.places_unpack import Damaged, Limits
from llara_core.data.places_where import as_text, bare_name, is_url, join, name_of, packing_of, shown

__all__ = [
    "DEEPEST",
    "LONGEST",
    "Damaged",
    "Limits",
    "as_text",
    "bare_name",
    "exists",
    "is_file",
    "is_folder",
    "is_url",
    "join",
    "list_files",
    "name_of",
    "open_place",
    "open_seekable",
    "packing_of",
    "parse_json",
    "place_fingerprint",
    "plain_or_packed",
    "read_json_lines",
    "read_lines",
    "read_rows",
    "shown",
]
