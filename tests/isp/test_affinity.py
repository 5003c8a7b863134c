"""The affinity tap: the self-attention that the U-Net computes, and a U-Net that does not notice."""

from contextlib import ExitStack

import pytest
import torch
from diffusers.models.attention_processor import Attention

from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import encode_prompts, join_states, predict, time_ids
from d2plan.errors import InputError
from d2plan.isp.affinity import tap_affinity

LEVEL = 1


def _run(backbone: Backbone) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    text = join_states([encode_prompts(backbone, [prompt]) for prompt in ("a man", "a dog")])
    with torch.no_grad():
        return predict(
            backbone, torch.randn(2, 4, 16, 16, generator=rng), torch.tensor(500), text, time_ids(backbone, 2)
        )


def test_the_unet_gives_the_same_and_keeps_no_hook(tiny: Backbone) -> None:
    before = _run(tiny)
    with tap_affinity(tiny.unet, [1], LEVEL) as tap:
        assert torch.equal(_run(tiny), before)
    assert tap.affinity(0).shape == (64, 64)
    assert not any(module._forward_hooks for module in tiny.unet.modules())


def test_it_is_the_mean_of_what_the_layers_attend_to(tiny: Backbone) -> None:
    deepest = len(tiny.unet.config.block_out_channels) - 1
    starts = [f"down_blocks.{LEVEL}.", f"up_blocks.{deepest - LEVEL}.", *(["mid_block."] if deepest == LEVEL else [])]
    seen: list[tuple[Attention, torch.Tensor]] = []
    with ExitStack() as hooks:
        for name, layer in tiny.unet.named_modules():
            if name.endswith("attn1") and name.startswith(tuple(starts)):
                keep = layer.to_q.register_forward_hook(
                    lambda _, given, __, layer=layer: seen.append((layer, given[0]))
                )
                hooks.callback(keep.remove)
        tap = hooks.enter_context(tap_affinity(tiny.unet, [0], LEVEL))
        _run(tiny)
    wanted = torch.zeros(64, 64)
    for layer, states in seen:
        query, key = (layer.head_to_batch_dim(part(states[:1])) for part in (layer.to_q, layer.to_k))
        # Oracle: the probabilities of diffusers' plain attention.
        wanted += layer.get_attention_scores(query, key).mean(dim=0).detach() / len(seen)
    assert len(seen) >= 2
    assert torch.allclose(tap.affinity(0), wanted, atol=1e-5)
    assert torch.allclose(tap.affinity(0).sum(dim=1), torch.ones(64), atol=1e-5)


def test_a_level_without_self_attention_is_refused(tiny: Backbone) -> None:
    with pytest.raises(InputError, match="no self-attention at level 7"), tap_affinity(tiny.unet, [0], 7):
        pass


def test_an_empty_tap_says_so(tiny: Backbone) -> None:
    with tap_affinity(tiny.unet, [0], LEVEL) as tap, pytest.raises(InputError, match="run the U-Net"):
        tap.affinity(0)
    with tap_affinity(tiny.unet, [0], LEVEL) as tap:
        _run(tiny)
        tap.clear()
        with pytest.raises(InputError):
            tap.affinity(0)
