"""A bundle for onnxruntime: one graph from ids to vectors, and a tokenizer file for each kind of text.

The folder holds ``model.onnx`` (its weights beside it where they are too large for one file), on request
``model_int8.onnx``, ``query_tokenizer.json`` and ``passage_tokenizer.json``, which cut, lay out and pad.
Source: issue 7, point 5.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from llara_core.errors import MissingDependencyError, ModelError
from llara_core.model.backbone import decoder_of
from llara_core.model.bundle import Bundle
from llara_core.model.encoding import pad_rows
from llara_core.model.export_checks import check_vectors, probe_rows, probe_vectors
from llara_core.model.export_onnx_graph import EmbeddingGraph
from llara_core.model.export_tokenizers import KINDS, check_prompts, prompt_length, prompt_tokenizer
from llara_core.model.prompts import Kind, PromptEncoder, clean

MODEL, INT8 = "model.onnx", "model_int8.onnx"
INPUTS, OUTPUT = ("input_ids", "attention_mask"), "embeddings"
_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
# A protobuf file ends at 2 GiB; the graph itself needs some of it.
_ONE_FILE = 1_800_000_000  # bytes of weights
_BATCH = 32  # rows of one run of the graph
_QUANTISED = ["MatMul", "Gemm"]  # not Gather: a token embedding in 8 bits costs more than it saves


def write_onnx(folder: Path, bundle: Bundle, *, int8: bool = False) -> dict[str, Any]:
    """Write graph and tokenizers, and compare them with the bundle.

    Args:
        folder: empty.
        bundle: to export; in float32, whatever its weights are in.
        int8: write the dynamically quantised graph as well.

    Returns:
        Facts for the record: bytes, least cosine of both graphs.

    Raises:
        ModelError: the model or its tokenizer cannot be exported, or gives other vectors.
        MissingDependencyError: the extra ``onnx`` is not installed.
    """
    _check_packages()
    model, tokenizer = bundle.load(verify=False)
    encoder = bundle.encoder(tokenizer)
    for kind in KINDS:
        _write_tokenizer(folder / tokenizer_name(kind), encoder, kind)
    decoder = decoder_of(model).float().eval()
    if decoder.config._attn_implementation not in ("sdpa", "eager"):
        decoder.set_attn_implementation("eager")  # others take no mask that a graph can hold
    expected = probe_vectors(decoder, encoder)
    _write_graph(EmbeddingGraph(decoder, bundle.template.slots_per_prompt), folder / MODEL)
    facts: dict[str, Any] = {
        "least_cosine": check_vectors(expected, _vectors(folder / MODEL, encoder), MODEL),
        "bytes": _bytes(folder, MODEL),
    }
    if int8:
        quantise(folder)
        found = _vectors(folder / INT8, encoder)
        facts["int8_least_cosine"] = float((expected * found).sum(axis=1).min())
        facts["int8_bytes"] = _bytes(folder, INT8)
    return facts


def tokenizer_name(kind: Kind) -> str:
    """The file that lays out texts of a kind."""
    return f"{kind}_tokenizer.json"


def quantise(folder: Path) -> None:
    """Write ``model_int8.onnx``: matrix products with weights in 8 bits, each column with a scale of its own.

    Args:
        folder: holds ``model.onnx``.
    """
    quantization: Any = importlib.import_module("onnxruntime.quantization")
    with _quiet():
        quantization.quantize_dynamic(
            folder / MODEL,
            folder / INT8,
            op_types_to_quantize=_QUANTISED,
            per_channel=True,
            reduce_range=True,  # 7 bits: sums of 8-bit products saturate on processors without VNNI
            weight_type=quantization.QuantType.QInt8,
            use_external_data_format=(folder / f"{MODEL}.data").exists(),
        )


class OnnxRetriever:
    """Encodes with an exported folder, as the card's own lines do; for judging what was exported.

    Args:
        folder: of the export.
        fingerprint: of the bundle.
        model: file of the graph in the folder.
    """

    def __init__(self, folder: Path, fingerprint: str, model: str = MODEL) -> None:
        from tokenizers import Tokenizer

        self.fingerprint = f"{fingerprint}-{model}"
        self._session = _session(folder / model)
        self._tokenizers: dict[Kind, Any] = {}
        for kind in KINDS:
            self._tokenizers[kind] = Tokenizer.from_file(str(folder / tokenizer_name(kind)))
            self._tokenizers[kind].encode_special_tokens = True

    @property
    def dimension(self) -> int:
        """Length of a vector, D."""
        return int(self._session.get_outputs()[0].shape[-1])

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of queries, float32 [N, D], of length 1."""
        return self._encode(texts, "query")

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of passages, float32 [N, D], of length 1."""
        return self._encode(texts, "passage")

    def _encode(self, texts: Sequence[str], kind: Kind) -> NDArray[np.float32]:
        found = np.empty((len(texts), self.dimension), np.float32)
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))  # so that little is padding
        for start in range(0, len(order), _BATCH):
            some = order[start : start + _BATCH]
            rows = self._tokenizers[kind].encode_batch([clean(texts[row]) for row in some])
            ids = np.array([row.ids for row in rows], np.int64)
            mask = np.array([row.attention_mask for row in rows], np.int64)
            found[some] = _run(self._session, ids, mask)
        return found


def _check_packages() -> None:
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"--to onnx needs {', '.join(missing)}, which is not installed; run `pip install 'llara[onnx]'`"
        )


def _write_tokenizer(path: Path, encoder: PromptEncoder, kind: Kind) -> None:
    from tokenizers import Tokenizer

    tokenizer = prompt_tokenizer(encoder, kind)
    tokenizer.enable_truncation(max_length=prompt_length(encoder, kind))
    token = encoder.tokenizer.convert_ids_to_tokens(encoder.pad_id)
    tokenizer.enable_padding(direction="right", pad_id=encoder.pad_id, pad_token=token)
    tokenizer.save(str(path))
    written = Tokenizer.from_file(str(path))
    written.encode_special_tokens = True

    def encode(texts: list[str]) -> list[list[int]]:
        return [row.ids[: sum(row.attention_mask)] for row in written.encode_batch(texts)]

    check_prompts(encoder, kind, encode, path.name)


def _write_graph(graph: nn.Module, path: Path) -> None:
    """Export with batch and length free."""
    ids = torch.full((2, 8), 1, dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0  # padding, so that nothing about it is taken for a constant
    free = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("tokens", min=2)}
    size = sum(weights.numel() * weights.element_size() for weights in graph.parameters())
    try:
        with _quiet(), torch.inference_mode():
            program = torch.onnx.export(
                graph.eval(),
                (ids, mask),
                input_names=list(INPUTS),
                output_names=[OUTPUT],
                dynamic_shapes=(free, free),
                dynamo=True,
                verbose=False,
            )
        if program is None:
            raise ModelError("--to onnx: the exporter gave nothing; use --to merged")
        program.save(path, external_data=size > _ONE_FILE)
    except (RuntimeError, torch.onnx.OnnxExporterError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise ModelError(
            f"--to onnx: this kind of model cannot be turned into a graph ({first_line}); use --to merged or "
            "--to sentence-transformers"
        ) from error


def _vectors(path: Path, encoder: PromptEncoder) -> NDArray[np.float32]:
    """Vectors of the probes by the graph: all in one padded batch, and again alone.

    Raises:
        ModelError: a row alone gets another vector than among others.
    """
    session = _session(path)
    rows = probe_rows(encoder)
    ids, lengths = pad_rows(rows, encoder.pad_id)
    mask = (torch.arange(ids.shape[1])[None, :] < lengths[:, None]).long()
    together = _run(session, ids.numpy(), mask.numpy())
    alone = [_run(session, np.array([row], np.int64), np.ones((1, len(row)), np.int64)) for row in rows]
    if path.name == MODEL:  # the scales of 8 bits go by the batch
        check_vectors(together, np.concatenate(alone), f"{path.name}, rows one by one")
    return together


def _session(path: Path) -> Any:
    onnxruntime: Any = importlib.import_module("onnxruntime")
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def _run(session: Any, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = session.run([OUTPUT], dict(zip(INPUTS, (ids, mask), strict=True)))[0]
    return found


def _bytes(folder: Path, name: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(f"{name}*"))


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter regrets every package of pictures that is not there, and deprecations of its own."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx._internal.exporter", "root", "onnxscript")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
