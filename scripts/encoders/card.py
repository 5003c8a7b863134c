"""Write the cards of the embedded encoders: what they are, what they learnt from, and what was measured."""

from __future__ import annotations

from pathlib import Path

import torch
from models import WORK

from d2plan.eval.metrics import Estimate

_ABOUT = {
    "clip": """# The embedded CLIP's card

`CLIPModel` of transformers, the small relative of OpenAI's CLIP for pictures of d2plan's small world: `{parameters}`
parameters, pictures of 128 px in patches of 16, captions in the embedded base's tokenizer, 256 numbers each.
It knows the world's words and nothing else; for photographs take `clip:openai/clip-vit-base-patch32`.

Learnt from renders of the stream "base" and captions written anew each time, in pairs: a scene, and the same one with
attributes exchanged between two figures or one thing changed. Pictures and captions of a batch must find each other,
and each picture must leave aside two false captions of its own (attributes exchanged; one attribute, class or place
changed) besides its twin's. This is not contrast alone: while it learnt, the world's exact truth
helped it - a linear layer, common to both towers, read from picture and caption vectors what is there, and another one
read from each patch whose it is and what that figure wears and does. Both layers are gone. Pictures were disturbed by
blur, noise, scaling, colours and JPEG.""",
    "vit": """# The embedded ViT's card

`ViTModel` of transformers, the small relative of DINO for pictures of d2plan's small world: `{parameters}`
parameters, pictures of 96 px in patches of 16; the first token after the last norm describes a picture, 128 numbers.
For photographs take `dino:facebook/dinov2-base` or `dino:facebook/dino-vits16`.

Self-supervised by telling instances apart (MoCo) over time (as VINCE): an instance at two moments of one clip is drawn
together; other instances, 4,096 earlier ones, and doubles of the same cutout with one of its colours changed (all over,
in stripes or dots, or in a part) are pushed apart. Exactly this was used: first and last moment of the world's clips
(stream "judge"), between which a figure does something else, goes elsewhere or is dressed otherwise, in one place and
light; that both moments show the same one, which the clip tells; and its mask, by which it is cut out, put before
another place or white, and boxed. Views are turned, mirrored, bent, stretched, noisy and partly covered by shapes.
No class, no caption, no name of an identity, and no pictures of a character from two scenes.""",
}
_DEVICES = {"cpu": "CPU seconds on one thread", "cuda": "seconds on a GPU"}
_ASKED = {
    "clip": ("caption of the picture, first of 100", 0.95),
    "vit": ("same above other, in its box: all", 0.90),
}


def _training(name: str) -> str:
    """Tell from the checkpoint how long it learnt, and where."""
    path = WORK / f"{name}.pt"
    if not path.exists():
        return "its checkpoint was not at hand when this was written."
    state = torch.load(path, weights_only=True, map_location="cpu")
    told = [f"{state['step']:,} steps"]
    told += [f"{seconds:,.0f} {_DEVICES.get(kind, kind)}" for kind, seconds in state.get("seconds", {}).items()]
    return f"{', '.join(told)}."


def write_card(name: str, folder: Path, table: dict[str, Estimate], made: str) -> None:
    """Write ``CARD.md``.

    Args:
        name: ``clip`` or ``vit``.
        folder: of the weights.
        table: what was measured.
        made: the command, the machine and the date.
    """
    parameters = (folder / "model.safetensors").stat().st_size // 2
    what, goal = _ASKED[name]
    reached = table[what].mean >= goal
    verdict = f'Asked is {goal:.2f} for "{what}": {"reached" if reached else "NOT reached; it must be trained longer"}.'
    lines = [
        _ABOUT[name].format(parameters=f"{round(parameters, -4):,}"),
        f"Training: {_training(name)} Command: `python scripts/encoders/train_{name}.py --minutes N [--cool] "
        "--export`; each step's pictures and disturbance come from its number.",
        "## Measured",
        f'On held-out renders (stream "heldout"), mean with the 95 % bootstrap interval: {made}. {verdict}',
        "\n".join(
            [
                "| what | mean | 95 % interval | values |",
                "| --- | --- | --- | --- |",
                *(
                    f"| {key} | {one.mean:.3f} | {one.low:.3f} .. {one.high:.3f} | {one.count} |"
                    for key, one in sorted(table.items())
                ),
            ]
        ),
        _HOW[name],
    ]
    temporary = folder / "CARD.md.part"
    temporary.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    temporary.replace(folder / "CARD.md")


_HOW = {
    "clip": """A pool holds 50 scenes of two to four figures, drawn as the world draws them, and the same 50 with
attributes exchanged between two figures of different classes; all 100 are rendered and captioned, and no two captions
can both be true. "First of 100" is chance at 0.01, "above its own caption with exchanged attributes" at 0.5.""",
    "vit": """A triplet is a character, the same one in another place, and another of its class; half of the others are
far, a quarter each differ in one and in two factors alone. Action, accessory and place are drawn anew for each picture.
"In its box" is how the metrics cut an instance out, its surroundings seen; chance is 0.5.""",
}
