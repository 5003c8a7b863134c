"""SEINE's network: a picture U-Net whose frames see each other, with nine input channels.

A `UNet2DConditionModel` is driven with the frames in the batch axis; its transformer blocks get temporal attention, and
its group norms count over all frames of a clip. Written after Chen et al., "SEINE: Short-to-Long Video Diffusion Model
for Generative Transition and Prediction" (2023), so that the published weights fit name by name.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional

from d2plan.shapes import check_shape

IN_CHANNELS = 9
_BUCKETS, _FARTHEST = 32, 32
_ROTATED = 32


@dataclass(frozen=True)
class SeineDesign:
    """What the two configurations of the network differ in.

    Attributes:
        fill: what the masked latents show where a frame is to be generated: the VAE's latents of grey, as published,
            or a fade from the first to the last frame's latents.
        reach: what a frame's self-attention sees: the frame alone, as published, or the first and last frame too, so
            that a small network can fetch from them what moved.
        convolutions: a temporal convolution after every residual block; not in the published network.
    """

    fill: Literal["grey", "fade"] = "grey"
    reach: Literal["frame", "ends"] = "frame"
    convolutions: bool = False


OFFICIAL = SeineDesign()
EMBEDDED = SeineDesign(fill="fade", reach="ends", convolutions=True)


class FrameText(NamedTuple):
    """What a clip's text gives the network, one row for each clip.

    Attributes:
        states: ``[b, n, d]``.
        added: pooled vector and time ids of an SDXL layout, ``[b, p]`` and ``[b, 6]``; None for SD 1.x.
    """

    states: Tensor
    added: dict[str, Tensor] | None = None


class ClipSize:
    """How many frames the clip in hand has; the network's parts share one, which holds a number only inside a call."""

    def __init__(self) -> None:
        self.frames = 1

    def split(self, rows: Tensor) -> Tensor:
        """Part the batch axis: ``[b f, ...]`` to ``[b, f, ...]``.

        Args:
            rows: frames of all clips, one after the other.

        Returns:
            A view.
        """
        return rows.unflatten(0, (-1, self.frames))


class ClipNorm(nn.Module):
    """A group norm whose statistics are those of all frames of a clip together.

    Args:
        norm: the group norm whose weights it takes over.
        clip: how many frames there are.
    """

    def __init__(self, norm: nn.GroupNorm, clip: ClipSize) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self.groups, self.eps, self.clip = norm.num_groups, norm.eps, clip

    def forward(self, rows: Tensor) -> Tensor:
        """Normalise.

        Args:
            rows: ``[b f, c, h, w]``.

        Returns:
            The same shape.
        """
        whole = self.clip.split(rows).transpose(1, 2)
        normal = functional.group_norm(whole, self.groups, self.weight, self.bias, self.eps)
        return normal.transpose(1, 2).flatten(0, 1)


class FrameDistance(nn.Module):
    """A learnt bias of temporal attention for each distance between frames, in T5's buckets (Raffel et al., 2020).

    Args:
        heads: of the attention.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.relative_attention_bias = nn.Embedding(_BUCKETS, heads)

    def forward(self, frames: int) -> Tensor:
        """Give the biases of a clip.

        Args:
            frames: f.

        Returns:
            ``[heads, f, f]``: row i attends to column j.
        """
        place = torch.arange(frames, device=self.relative_attention_bias.weight.device)
        return self.relative_attention_bias(find_buckets(place[None, :] - place[:, None])).permute(2, 0, 1)


def find_buckets(distance: Tensor) -> Tensor:
    """Sort signed distances into 32 buckets: near ones apart, far ones together on a logarithmic scale.

    >>> find_buckets(torch.tensor([-9, -8, -1, 0, 1, 7, 31])).tolist()
    [8, 8, 1, 0, 17, 23, 31]

    Args:
        distance: key's frame minus query's frame, integers.

    Returns:
        Buckets 0..31 of the same shape: 0..15 for keys not later than the query, 16..31 for later ones.
    """
    half = _BUCKETS // 2
    exact = half // 2
    steps = distance.abs()
    spread = torch.log(steps.clamp(min=1).float() / exact) / math.log(_FARTHEST / exact) * (half - exact)
    far = (exact + spread.long()).clamp(max=half - 1)
    return (distance > 0).long() * half + torch.where(steps < exact, steps, far)


class Rotation(nn.Module):
    """Rotary positions over the frames (Su et al., 2021), on the first dimensions of a head.

    Args:
        dimensions: of a head that are rotated, even.
    """

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        powers = torch.arange(0, dimensions, 2).float() / dimensions
        # A parameter, because the published file holds it with each layer.
        self.freqs = nn.Parameter(10000.0**-powers, requires_grad=False)

    def forward(self, heads: Tensor) -> Tensor:
        """Turn each pair of dimensions by an angle that grows with the frame.

        Args:
            heads: queries or keys, ``[..., f, d]``.

        Returns:
            The same shape.
        """
        freqs = self.freqs.float()
        angle = torch.arange(heads.shape[-2], device=heads.device).float()[:, None] * freqs
        cosine, sine = angle.cos().to(heads.dtype), angle.sin().to(heads.dtype)
        width = 2 * len(freqs)
        even, odd = heads[..., :width:2], heads[..., 1:width:2]
        turned = torch.stack([even * cosine - odd * sine, odd * cosine + even * sine], -1).flatten(-2)
        return torch.cat([turned, heads[..., width:]], -1)


class TemporalAttention(nn.Module):
    """Attention of each place to the same place in every frame; its output layer starts at zero.

    Args:
        width: channels.
        heads: of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.to_out = nn.ModuleList([_silence(nn.Linear(width, width))])
        self.time_rel_pos_bias = FrameDistance(heads)
        self.rotary_emb = Rotation(min(_ROTATED, width // heads // 2 * 2))

    def forward(self, places: Tensor) -> Tensor:
        """Attend over the frames.

        Args:
            places: ``[b q, f, c]``.

        Returns:
            The same shape.
        """
        query, key, value = (
            layer(places).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.to_q, self.to_k, self.to_v)
        )
        bias = self.time_rel_pos_bias(places.shape[1]).to(query.dtype)
        seen = functional.scaled_dot_product_attention(
            self.rotary_emb(query), self.rotary_emb(key), value, attn_mask=bias
        )
        return self.to_out[0](seen.transpose(1, 2).flatten(-2))


class ClipBlock(nn.Module):
    """A transformer block with temporal attention between the text's attention and the feed-forward layers.

    Args:
        block: the picture U-Net's block whose layers it takes over.
        clip: how many frames there are.
        design: which configuration.
    """

    def __init__(self, block: BasicTransformerBlock, clip: ClipSize, design: SeineDesign) -> None:
        super().__init__()
        self.attn1, self.norm1 = block.attn1, block.norm1
        self.attn2, self.norm2 = block.attn2, block.norm2
        width = int(block.norm3.normalized_shape[0])
        self.attn_temp = TemporalAttention(width, block.attn1.heads)
        self.norm_temp = nn.LayerNorm(width)
        self.ff, self.norm3 = block.ff, block.norm3
        self.clip, self.reach = clip, design.reach

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, **others: object) -> Tensor:
        """Run the block.

        Args:
            hidden_states: ``[b f, q, c]``.
            encoder_hidden_states: the text's states, ``[b f, n, d]``.
            **others: what else diffusers hands to a block; all None here.

        Returns:
            The same shape as the hidden states.
        """
        rows = hidden_states
        normal = self.norm1(rows)
        rows = rows + self.attn1(normal, encoder_hidden_states=self._reach(normal))
        rows = rows + self.attn2(self.norm2(rows), encoder_hidden_states=encoder_hidden_states)
        places = self.clip.split(rows).transpose(1, 2)
        normal = self.norm_temp(places).flatten(0, 1)
        places = places + self.attn_temp(normal).unflatten(0, places.shape[:2])
        rows = places.transpose(1, 2).flatten(0, 1)
        return rows + self.ff(self.norm3(rows))

    def _reach(self, rows: Tensor) -> Tensor | None:
        if self.reach == "frame":
            return None
        clips = self.clip.split(rows)
        ends = torch.cat([clips[:, 0], clips[:, -1]], 1)[:, None].expand(-1, clips.shape[1], -1, -1)
        return torch.cat([clips, ends], 2).flatten(0, 1)


class NearFrames(nn.Module):
    """Adds what a frame's neighbours show, by a convolution over three frames that starts at zero.

    Args:
        width: channels.
        clip: how many frames there are.
    """

    def __init__(self, width: int, clip: ClipSize) -> None:
        super().__init__()
        self.mix = _silence(nn.Conv2d(3 * width, width, 1))
        self.clip = clip

    def forward(self, rows: Tensor) -> Tensor:
        """Add.

        Args:
            rows: ``[b f, c, h, w]``.

        Returns:
            The same shape.
        """
        clips = self.clip.split(functional.silu(rows))
        before, after = torch.zeros_like(clips), torch.zeros_like(clips)
        before[:, 1:], after[:, :-1] = clips[:, :-1], clips[:, 1:]
        return rows + self.mix(torch.cat([before, clips, after], 2).flatten(0, 1))


class ClipUnet(nn.Module):
    """A picture U-Net made into SEINE's.

    Args:
        unet: with nine input channels; its parts are replaced in place, and its weights' names stay.
        design: which configuration.
    """

    def __init__(self, unet: UNet2DConditionModel, design: SeineDesign) -> None:
        super().__init__()
        self.clip = ClipSize()
        self.unet = _inflate(unet, self.clip, design)
        self.design = design

    def forward(self, clips: Tensor, timestep: Tensor, text: FrameText) -> Tensor:
        """Predict for all frames of all clips.

        Args:
            clips: noisy latents, mask (1: generate) and masked latents, ``[b, 9, f, h, w]``.
            timestep: one for all clips, or ``[b]``.
            text: b rows.

        Returns:
            Noise or velocity, ``[b, 4, f, h, w]``.

        Raises:
            ShapeError: the axes do not agree.
        """
        sizes = check_shape(clips, "b 9 f h w", "clips")
        check_shape(text.states, "b n d", "text.states", sizes)
        frames = sizes["f"]
        added = text.added and {key: rows.repeat_interleave(frames, 0) for key, rows in text.added.items()}
        moments = torch.as_tensor(timestep, device=clips.device).reshape(-1).expand(sizes["b"])
        self.clip.frames = frames
        try:
            rows = self.unet(
                clips.transpose(1, 2).flatten(0, 1),
                moments.repeat_interleave(frames, 0),
                encoder_hidden_states=text.states.repeat_interleave(frames, 0),
                added_cond_kwargs=added,
                return_dict=False,
            )[0]
        finally:
            self.clip.frames = 1
        return rows.unflatten(0, (-1, frames)).transpose(1, 2)


def make_clip_unet(config: Mapping[str, object], design: SeineDesign) -> ClipUnet:
    """Make SEINE's network with random weights from a picture U-Net's configuration.

    Args:
        config: of the picture U-Net; its number of input channels is set to nine.
        design: which configuration.

    Returns:
        The network, in evaluation mode; its temporal layers change nothing yet.
    """
    unet = UNet2DConditionModel.from_config({**config, "in_channels": IN_CHANNELS})
    return ClipUnet(unet, design).eval()


def widen_input(weight: Tensor) -> Tensor:
    """Give a picture U-Net's first layer room for the mask and the masked latents, which it does not see at first.

    Args:
        weight: ``[c, 4, 3, 3]``.

    Returns:
        ``[c, 9, 3, 3]``, zeros in the added channels.
    """
    return functional.pad(weight, (0, 0, 0, 0, 0, IN_CHANNELS - weight.shape[1]))


def _silence(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _inflate(unet: UNet2DConditionModel, clip: ClipSize, design: SeineDesign) -> UNet2DConditionModel:
    for module in list(unet.modules()):
        if isinstance(module, ResnetBlock2D):
            module.norm1, module.norm2 = ClipNorm(module.norm1, clip), ClipNorm(module.norm2, clip)
        for name, child in list(module.named_children()):
            if isinstance(child, BasicTransformerBlock):
                setattr(module, name, ClipBlock(child, clip, design))
    if design.convolutions:
        # After the walk above, so that it does not meet what is put in here.
        for module in [part for part in unet.modules() if isinstance(part, ResnetBlock2D)]:
            near = NearFrames(module.out_channels, clip)
            module.add_module("near", near)
            module.register_forward_hook(_add_near)
    unet.conv_norm_out = ClipNorm(unet.conv_norm_out, clip)
    return unet


def _add_near(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return module.get_submodule("near")(output)
