"""The start that the pictures of a series share: one noise, one warm-up, one set of masks."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from d2plan.backbone.schedulers import Sampling
from d2plan.errors import InputError
from d2plan.isp.keep import KeptPicture
from d2plan.isp.partition import MaskResult
from d2plan.isp.prepare import PreparedScene

_FIELDS = (
    "base",
    "global_prompt",
    "negative_prompt",
    "style",
    "controls",
    "masks",
    "detector",
    "missing",
    "weave",
    "scheduler",
    "steps",
    "warmup",
    "guidance_scale",
    "height",
    "width",
    "seed",
)


@dataclass(frozen=True, eq=False)
class SharedStart:
    """What all variants of a series have in common after the warm-up; made by ``warm_up``, used up by nobody.

    Attributes:
        prepared: the scene that it was made with.
        latents: after the warm-up, ``[1, c, h, w]``.
        sampling: the sampler's state there.
        masks: M_0..M_m and how they were found.
        unet_calls: that it took.
        unet_rows: that it took, 2 a step.
        timings: seconds by name.
    """

    prepared: PreparedScene
    latents: Tensor
    sampling: Sampling
    masks: MaskResult
    unet_calls: int
    unet_rows: int
    timings: dict[str, float]


def check_start(scenes: Sequence[PreparedScene], shared: SharedStart | KeptPicture) -> None:
    """Make sure that scenes may go on from a start, or keep a picture.

    Args:
        scenes: the variants.
        shared: their start, or the picture.

    Raises:
        InputError: a variant differs from it in more than sub-prompts, concepts and strengths; the sentence names
            the field.
    """
    own = shared.prepared
    for number, scene in enumerate(scenes):
        for field in _FIELDS:
            if getattr(scene.scene, field) != getattr(own.scene, field):
                raise InputError(f"variants[{number}] has another {field} than the series; leave it as it is there.")
        if len(scene.regions) != len(own.regions):
            raise InputError(
                f"variants[{number}] has {len(scene.regions)} instances, the series {len(own.regions)}; keep them."
            )
        if isinstance(shared, KeptPicture):
            continue
        if scene.read.global_prompt != own.read.global_prompt:
            raise InputError(
                f"variants[{number}]: its global row reads more than the series' global prompt; write `weave: subs`."
            )
        for index, (mine, other) in enumerate(zip(scene.regions, own.regions, strict=True)):
            masks = (scene.scene.instances[index].mask, own.scene.instances[index].mask)
            if mine != other or masks[0] != masks[1]:
                raise InputError(
                    f"variants[{number}]: instances[{index}] has another class word or place than in the series "
                    f'("{mine.class_word}", not "{other.class_word}"); keep both, they belong to the layout.'
                )
