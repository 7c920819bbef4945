"""How to use an export, for its card: the lines that a user copies. They are tested as they stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llara_core.model.bundle import Bundle

LIBRARIES = {"sentence-transformers": "sentence-transformers", "merged": "transformers", "adapter": "peft",
             "onnx": "onnx"}  # fmt: skip

_SENTENCE_TRANSFORMERS = """```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("FOLDER")
queries = model.encode_query(["what is a glacier"])
passages = model.encode_document(["Glacier Ice creeps along the valley."])  # title, space, text
print(model.similarity(queries, passages))
```

It is made of the library's own modules: there is no code to trust and nothing else to install. Queries and
passages are laid out differently, so `encode` must be told which: `encode(texts, task="query")`. Without a
task it is refused. The tokenisers hold the words around a text: give no `prompt`. Long texts are cut within
the text; the slots stay.
"""

# What both ways of driving the decoder by hand have in common; DECODER is where it lies in each.
_BY_HAND = """prefix, slots = {prefix}, {slots}
suffix = {{  # ends in the slots
    "query": {query_suffix},
    "passage": {suffix},
}}
length = {{"query": {query_length}, "passage": {passage_length}}}


def embed(text, kind):
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    row = torch.tensor([prefix + ids[: length[kind]] + suffix[kind]])
    states = DECODER(input_ids=row, use_cache=False).last_hidden_state
    return torch.nn.functional.normalize(states[0, -slots:].float().mean(dim=0), dim=-1)


with torch.no_grad():
    print(embed("what is a glacier", "query") @ embed("Glacier Ice creeps along the valley.", "passage"))
```
"""

_MERGED = f"""```python
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
model = AutoModelForCausalLM.from_pretrained("FOLDER")
{_BY_HAND.replace("DECODER", "model.base_model")}
The same folder is a bundle: `llara_core.Retriever.from_pretrained("FOLDER")` does all of this, in batches.
"""

_ADAPTER = f"""```python
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
base = AutoModelForCausalLM.from_pretrained("BASE")
base.resize_token_embeddings({{rows}}, mean_resizing=False)  # room for the slots
model = PeftModel.from_pretrained(base, "FOLDER").eval()
{_BY_HAND.replace("DECODER", "model.get_base_model().base_model")}"""

_ONNX = """```python
import numpy as np
import onnxruntime
from tokenizers import Tokenizer


class OnnxRetriever:
    def __init__(self, folder, model="model.onnx"):
        self.session = onnxruntime.InferenceSession(f"{{folder}}/{{model}}")
        self.tokenizers = {{}}
        for kind in ("query", "passage"):
            tokenizer = Tokenizer.from_file(f"{{folder}}/{{kind}}_tokenizer.json")
            tokenizer.encode_special_tokens = True  # names of special tokens in a text are words
            self.tokenizers[kind] = tokenizer

    def encode(self, texts, kind):
        rows = self.tokenizers[kind].encode_batch(texts)  # cut, laid out and padded
        ids = np.array([row.ids for row in rows], np.int64)
        mask = np.array([row.attention_mask for row in rows], np.int64)
        return self.session.run(None, {{"input_ids": ids, "attention_mask": mask}})[0]


retriever = OnnxRetriever("FOLDER")
queries = retriever.encode(["what is a glacier"], "query")
passages = retriever.encode(["Glacier Ice creeps along the valley."], "passage")  # title, space, text
print(queries @ passages.T)
```

It needs `onnxruntime`, `tokenizers` and `numpy` alone. Batches of any size and length; rows are padded on the
right. Sort texts by length before you cut them into batches, so that little is padding.
{int8}"""

_INT8 = """
`OnnxRetriever("FOLDER", "model_int8.onnx")` takes the graph whose matrix products have weights of 8 bits. Its
vectors are near the others, not equal, and depend a little on what shares their batch: index and queries with
the same one.
"""


def usage(bundle: Bundle, target: str, facts: Mapping[str, Any]) -> str:
    """Code and the words that go with it.

    Args:
        bundle: what was exported.
        target: for which library.
        facts: what the export found out.
    """
    if target == "sentence-transformers":
        return _SENTENCE_TRANSFORMERS
    if target == "onnx":
        return _ONNX.format(int8=_INT8 if "int8_bytes" in facts else "")
    prompt = facts["prompt"]
    return {"merged": _MERGED, "adapter": _ADAPTER}[target].format(
        prefix=prompt["prefix"],
        suffix=prompt["passage_suffix"],
        query_suffix=prompt["query_suffix"],
        slots=bundle.template.slots_per_prompt,
        query_length=bundle.query_length,
        passage_length=bundle.passage_length,
        rows=facts.get("embedding_rows"),
    )
