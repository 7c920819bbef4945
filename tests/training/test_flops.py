"""FLOPs by formula are those that torch counts; shares of a GPU's peak."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from llara_core.model.backbone import decoder_of
from llara_core.training.flops import ForwardFlops, Utilisation, batch_work, peak_flops, utilisation_of


def llama():
    config = LlamaConfig(
        vocab_size=50, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, attn_implementation="eager",
    )  # fmt: skip
    return LlamaForCausalLM(config)


def gpt2():
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=50, n_embd=24, n_layer=2, n_head=4, attn_implementation="eager")
    )


@pytest.mark.parametrize("build", [llama, gpt2])
def test_formula_equals_what_torch_counts(build) -> None:
    model, rows, width, positions = build(), 3, 11, 5
    ids = torch.zeros(rows, width, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        states = decoder_of(model)(input_ids=ids).last_hidden_state
        model.get_output_embeddings()(states[0, :positions])
    work = torch.tensor([rows * width, rows * width**2, positions], dtype=torch.float64)
    assert ForwardFlops(model).total(work) == counter.get_total_flops()


def test_adapters_are_left_out() -> None:
    plain = ForwardFlops(llama())
    adapted = ForwardFlops(get_peft_model(llama(), LoraConfig(r=4, target_modules=["q_proj"])))
    assert vars(adapted) == vars(plain)


def test_work_of_micro_batches() -> None:
    objective = SimpleNamespace(settings=SimpleNamespace(language_model_weight=1.0), prefix_length=1)
    # Rows of 6 (3 text, 1 + 2 branches) and 4 (2 text) tokens; two branches of two slots.
    segments = torch.tensor([[1, 1, 1, 2, 3, 3], [1, 1, 2, 3, 0, 0]])
    batch = {"segments": segments, "slots": torch.zeros(2, 2, 2)}
    assert batch_work(objective, batch).tolist() == [10, 36 + 16, 8 + 2 + 1]
    objective.settings.language_model_weight = 0.0
    assert batch_work(objective, batch).tolist() == [10, 52, 8]
    # The same two rows in one sequence.
    packed = {
        "segments": torch.tensor([[1, 1, 1, 2, 3, 3, 1, 1, 2, 3, 0]]),
        "documents": torch.tensor([[0] * 6 + [1] * 4 + [-1]]),
        "slots": batch["slots"],
    }
    assert batch_work(objective, packed).tolist() == [10, 52, 8]
    pairs = {"query_lengths": torch.tensor([3, 2]), "passage_lengths": torch.tensor([5])}
    assert batch_work(objective, pairs).tolist() == [10, 9 + 4 + 25, 0]


def test_peaks_are_those_of_the_table() -> None:
    assert peak_flops("NVIDIA H100 80GB HBM3", bfloat16=True) == 989e12
    assert peak_flops("NVIDIA H100 PCIe", bfloat16=True) == 756e12
    assert peak_flops("NVIDIA A100-SXM4-80GB", bfloat16=False) == 19.5e12
    assert peak_flops("NVIDIA L40S", bfloat16=True) == 362e12
    assert peak_flops("Tesla T4", bfloat16=True) == 8.1e12  # it has no bfloat16
    assert peak_flops("Some GPU of tomorrow", bfloat16=True) is None


def test_utilisation_counts_three_passes_and_starts_anew() -> None:
    module = torch.nn.Module()
    module.model = llama()
    module.settings = SimpleNamespace(language_model_weight=0.0)
    counter = Utilisation(module, peak=1e9)
    batch = {"query_lengths": torch.tensor([3, 2]), "passage_lengths": torch.tensor([5])}
    forward = ForwardFlops(module.model).total(batch_work(module, batch))
    counter.add(batch)
    counter.add(batch)
    assert counter.since_last(2.0) == pytest.approx(3 * 2 * forward / (2.0 * 1e9))
    assert counter.since_last(2.0) == 0.0
    module.model = get_peft_model(module.model, LoraConfig(r=4, target_modules=["q_proj"]))
    assert Utilisation(module, peak=1e9).passes == 2.0  # frozen weights need no gradient of their own


def test_none_on_a_cpu() -> None:
    assert utilisation_of(None, SimpleNamespace(device=torch.device("cpu"))) is None
