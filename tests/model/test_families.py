"""One joint pass equals two separate passes, for every family, kernel, padding side and window."""

from __future__ import annotations

import pytest
import torch

from llara_core.model.backbone import decoder_of
from llara_core.model.encoding import embed, pad_rows
from llara_core.model.joint_pass import (
    TESTED_FAMILIES,
    check_joint_support,
    joint_hidden_states,
    joint_layout,
    joint_mask,
    joint_positions,
    verify_joint_pass,
)
from tests.oracles.decoder_families import (
    FAMILIES,
    NO_FLEX,
    WINDOW,
    WINDOWED,
    gradient,
    kernels_of,
    slots_alone,
    tiny,
)

TEXTS = [[5, 6, 7, 8, 9, 40, 41, 42, 43, 44, 45], [5], [10, 11, 12]]
EBAE, EBAR = [20, 30, 31], [21, 22, 32, 33]
SIDES = ["left", "right"]
# Families in every run; the others take as long again, so they are in the slow tier.
CORE = {
    "gemma2", "gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "mixtral", "olmo2", "phi3", "qwen2",
    "qwen3", "smollm3",
}  # fmt: skip


def case(family: str, *rest: object):
    return pytest.param(family, *rest, marks=[] if family in CORE else pytest.mark.slow)


KERNELS = [(family, kernel) for family in FAMILIES for kernel in kernels_of(family)]
CASES = [case(*pair) for pair in KERNELS]
WINDOW_CASES = [case(*pair) for pair in KERNELS if pair[0] in WINDOWED]
FLEX = [family for family in FAMILIES if family not in NO_FLEX]
FLEX_CASES = [case(family, None) for family in FLEX] + [
    case(family, WINDOW) for family in FLEX if family in WINDOWED
]
EMBED_CASES = [case(*pair, None) for pair in KERNELS] + [
    case(*pair, WINDOW) for pair in KERNELS if pair[0] in WINDOWED
]


def layout_of(side: str):
    return joint_layout(TEXTS, EBAE, EBAR, slots=2, pad_id=0, padding_side=side)


def assert_equal_gradients(model: torch.nn.Module, joint: torch.Tensor, apart: torch.Tensor) -> None:
    got, expected = gradient(model, joint), gradient(model, apart)
    assert expected.norm() > 1e-2  # else equality would say nothing
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("family", "kernel"), CASES)
def test_joint_equals_two_passes(family: str, kernel: str, side: str) -> None:
    model = tiny(family, kernel)
    joint = joint_hidden_states(decoder_of(model), layout_of(side))
    apart = slots_alone(model, TEXTS, (EBAE, EBAR), 2)
    torch.testing.assert_close(joint, apart, atol=1e-5, rtol=0)
    assert_equal_gradients(model, joint, apart)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("family", "kernel"), WINDOW_CASES)
def test_rows_longer_than_the_window(family: str, kernel: str, side: str) -> None:
    model = tiny(family, kernel, WINDOW)
    joint = joint_hidden_states(decoder_of(model), layout_of(side))
    apart = slots_alone(model, TEXTS, (EBAE, EBAR), 2)
    wide = slots_alone(tiny(family, kernel), TEXTS, (EBAE, EBAR), 2)
    assert (apart[0] - wide[0]).abs().max() > 1e-2  # the window matters
    torch.testing.assert_close(joint, apart, atol=1e-5, rtol=0)
    assert_equal_gradients(model, joint, apart)


@pytest.mark.parametrize(("family", "window"), FLEX_CASES)
def test_flex_attention_equals_two_passes(family: str, window: int | None) -> None:
    apart = slots_alone(tiny(family, "eager", window), TEXTS, (EBAE, EBAR), 2)
    decoder = decoder_of(tiny(family, "flex_attention", window))
    # Uncompiled: on a CPU flex attention has no backward pass, and compiling it takes a C++ compiler.
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        for side in SIDES:
            joint = joint_hidden_states(decoder, layout_of(side))
            torch.testing.assert_close(joint, apart, atol=1e-5, rtol=0)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("family", "window"),
    [("llama", None), *((family, WINDOW) for family in WINDOWED if family not in NO_FLEX)],
)
def test_flex_attention_gradients_on_gpu(family: str, window: int | None) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    models = [tiny(family, kernel, window).to("cuda") for kernel in ("flex_attention", "eager")]
    layout = layout_of("right")
    layout = type(layout)(layout.input_ids.cuda(), layout.segments.cuda(), layout.slots.cuda())
    flex, eager = (joint_hidden_states(decoder_of(model), layout) for model in models)
    torch.testing.assert_close(flex, eager, atol=1e-4, rtol=0)
    got, expected = gradient(models[0], flex), gradient(models[1], eager)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("family", [case(family) for family in FAMILIES])
def test_a_plain_causal_mask_would_not_do(family: str) -> None:
    model = tiny(family, "eager")
    layout = layout_of("right")
    states = decoder_of(model)(
        input_ids=layout.input_ids,
        attention_mask=(layout.segments != 0).long(),
        position_ids=joint_positions(layout.segments),
        use_cache=False,
    ).last_hidden_state
    wrong = states[torch.arange(len(TEXTS))[:, None, None], layout.slots]
    apart = slots_alone(model, TEXTS, (EBAE, EBAR), 2)
    assert (wrong[:, 1] - apart[:, 1]).abs().max() > 1e-2


@pytest.mark.parametrize(("family", "kernel"), CASES)
def test_support_check_agrees(family: str, kernel: str) -> None:
    decoder = decoder_of(tiny(family, kernel))
    check_joint_support(decoder, 24)
    assert verify_joint_pass(decoder, 24) < 1e-5


def test_every_tested_family_is_tested() -> None:
    assert set(FAMILIES) >= TESTED_FAMILIES


def test_boolean_masks_are_no_substitute() -> None:
    # Why the mask is additive: right under sdpa, and taken for numbers under eager.
    layout = layout_of("right")
    positions, additive = joint_positions(layout.segments), joint_mask(layout.segments, torch.float32)
    deviation = {}
    for kernel in ("sdpa", "eager"):
        decoder = decoder_of(tiny("llama", kernel))
        states = [
            decoder(
                input_ids=layout.input_ids, attention_mask=mask, position_ids=positions, use_cache=False
            ).last_hidden_state
            for mask in (additive, additive == 0)
        ]
        deviation[kernel] = (states[0] - states[1])[layout.segments != 0].abs().max().item()
    assert deviation["sdpa"] < 1e-5
    assert deviation["eager"] > 1e-2


@pytest.mark.parametrize(("family", "kernel", "window"), EMBED_CASES)
def test_embeddings_do_not_depend_on_padding(family: str, kernel: str, window: int | None) -> None:
    decoder = decoder_of(tiny(family, kernel, window))
    rows = [[*text, *EBAE] for text in TEXTS]
    with torch.no_grad():
        together = embed(decoder, *pad_rows(rows, 0), slots=2)
        single = torch.cat([embed(decoder, *pad_rows([row], 0), slots=2) for row in rows])
    torch.testing.assert_close(together, single, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_embeddings_under_flex_attention(family: str) -> None:
    ids, lengths = pad_rows([[*text, *EBAE] for text in TEXTS], 0)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        flex, eager = (
            embed(decoder_of(tiny(family, kernel, WINDOW)), ids, lengths, slots=2)
            for kernel in ("flex_attention", "eager")
        )
    torch.testing.assert_close(flex, eager, atol=1e-5, rtol=0)
