"""Documented functions read out of Python source text, without importing it.

Standard library only: worker processes import this file and nothing heavier.
"""

from __future__ import annotations

import ast
import re
import textwrap
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef

# reStructuredText roles (":func:`~a.b`") are mark-up, not words anybody would type into a search box.
_ROLE = re.compile(r":[\w:+-]+:`~?([^`<]*?)\s*(?:<[^`]*>)?`")
_BACKTICKS = re.compile(r"`+")
_SENTENCE_END = re.compile(r"(?<!e\.g)(?<!i\.e)(?<!etc)(?<!vs)[.!?](?=\s+[A-Z\"'(\[])")
_SUMMARY_END = re.compile(
    r"\n\s*\n|\n\s*(?:[-*+] |\d+[.)] |:\w+|\.\. |>>> |@\w+"
    r"|(?:Args|Arguments|Parameters|Returns?|Yields|Raises|Examples?|Notes?|Usage|See Also)\s*:?\s*\n)"
)
_USELESS = re.compile(
    r"^(?:deprecated|todo|fixme|see |refer to |same as |alias |wrapper |overrides? |inherit|internal\b"
    r"|\.\. |:|@|>>>|args:|parameters\b|not implemented|%|\{|\[)",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_WORD = re.compile(r"[A-Za-z]+|\d+")


@dataclass(frozen=True)
class ParsedFunction:
    """One documented function of one module, still unfiltered by length.

    Attributes:
        module: dotted module name.
        name: qualified name inside the module, "Class.method" for a method.
        position: 0-based order of its first line among the module's documented functions.
        summary: first sentence of the docstring, one line.
        source: dedented source without the docstring, decorators included.
    """

    module: str
    name: str
    position: int
    summary: str
    source: str


def module_name(path: str) -> str:
    """Return the dotted module name of a path relative to site-packages ("a/b/__init__.py" → "a.b")."""
    parts = list(Path(path).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def clean_text(text: str) -> str:
    """Return `text` with plain line ends, without other control characters than tab or lone surrogates."""
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", " "))


def summary_of(docstring: str) -> str:
    """Return the first sentence of a docstring on one line, "" where it says nothing worth searching for.

    Mark-up (roles, backticks) is taken off, white space is folded. Headings, directives, parameter lists,
    notices of deprecation and references elsewhere count as nothing, and so does non-ASCII text.
    """
    head = _SUMMARY_END.split(docstring.strip(), maxsplit=1)[0]
    line = " ".join(_BACKTICKS.sub("", _ROLE.sub(r"\1", head)).split())
    if cut := _SENTENCE_END.search(line):
        line = line[: cut.end()]
    letters = sum(c.isalpha() for c in line)
    spoken = line.isascii() and line.isprintable() and 2 * letters >= len(line)
    return line if spoken and not line.endswith(":") and not _USELESS.match(line) else ""


def words(text: str) -> list[str]:
    """Return the lower-cased words and numbers of `text`; identifiers split at "_" (not at camelCase)."""
    return _WORD.findall(text.lower())


def parse_module(path: Path, relative: str) -> list[ParsedFunction] | None:
    """Return the documented functions of one file in source order, None where it cannot be read or parsed.

    Module-level functions and methods count; functions nested in functions belong to their parent's source.
    Of several definitions of one name (overloads, property setters) the first documented one counts.
    """
    try:
        with tokenize.open(path) as stream:
            text = stream.read()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's invalid escapes are not our user's concern
            tree = ast.parse(text)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    lines = text.split("\n")  # as `ast` counts; str.splitlines also breaks at form feeds
    module = module_name(relative)
    found: list[ParsedFunction] = []
    seen: set[str] = set()
    for name, node in _functions(tree, ""):
        parsed = _summary_and_source(node, lines)
        if parsed is None or name in seen:
            continue
        seen.add(name)
        found.append(ParsedFunction(module, name, len(found), *parsed))
    return found


def _functions(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, Function]]:
    """Yield (qualified name, node) of functions and methods in source order, classes entered."""
    for child in node.body:
        if isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, Function):
            yield prefix + child.name, child


def _summary_and_source(node: Function, lines: list[str]) -> tuple[str, str] | None:
    """Return (summary, source without docstring), None for a stub, an undocumented or an odd function."""
    docstring = ast.get_docstring(node)
    if not docstring or all(_is_stub(statement) for statement in node.body[1:]):
        return None
    summary = summary_of(docstring)
    document = node.body[0]
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
    doc_first, doc_last = document.lineno - 1, (document.end_lineno or document.lineno) - 1
    shares_line = node.body[1].lineno - 1 <= doc_last or lines[doc_first][: document.col_offset].strip()
    if not summary or shares_line:
        return None
    kept = lines[first:doc_first] + lines[doc_last + 1 : node.end_lineno]
    return summary, clean_text(_dedent(kept, node.col_offset)).strip("\n")


def _is_stub(statement: ast.stmt) -> bool:
    """Say whether a statement holds no code: `pass`, `...`, or `raise NotImplementedError`."""
    if isinstance(statement, ast.Raise):
        return "NotImplemented" in ast.dump(statement)
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def _dedent(kept: list[str], width: int) -> str:
    """Return the lines joined, up to `width` leading blanks taken off each (strings may be further left)."""
    margin = kept[0][:width] if kept else ""
    if margin.strip():
        return textwrap.dedent("\n".join(kept))
    return "\n".join(line.removeprefix(margin) if line.startswith(margin) else line.lstrip() for line in kept)
