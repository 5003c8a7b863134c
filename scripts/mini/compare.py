"""Compare U-Nets that are still being trained, by what the judge sees in their pictures of held-out captions.

Each folder holds the checkpoint of one training (its D2PLAN_MINI_WORK); all have the same captions and the same noise.
Pictures of half the size are enlarged for the judge. A row "true" is what it says of the world's own pictures after the
same reduction and the autoencoder. Intervals are over captions; what another start of the same training would change
is not in them, so train one of them twice (``--seed``).

Command: python scripts/mini/compare.py FOLDER... --captions 200 --guidance 1 3 5 (writes a JSON file and sheets)
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from autoencoder import load_vae
from common import SIZE, WORK
from encode import encode
from measure import Case, cases
from models import Recipe
from PIL import Image
from sample import decode_images, sample_images
from tokenizer import make_tokenizer
from train_unet import Bundle

from d2plan.documents import Score
from d2plan.eval.judge import Judge, load_judge
from d2plan.eval.score import expect_caption, score_verdict, summarise
from d2plan.media.images import contact_sheet, write_file, write_png
from d2plan.world.truth import render

SHOWN = ("present", "all present", "attributes on the right one", "swapped", "place", "light")


def draw(folder: Path, captions: Sequence[str], guidance_scale: float, choice: argparse.Namespace) -> np.ndarray:
    """Draw each caption with a folder's averaged weights, ``[b, size, size, 3]``."""
    kept = torch.load(folder / "unet.pt", weights_only=True, map_location="cpu")
    bundle = Bundle(make_tokenizer(), kept.get("size", "small"))
    bundle.load_state_dict(kept["average"])
    statistics = np.load(WORK / "latents.npz")
    scale = tuple(torch.from_numpy(statistics[name])[:, None, None] for name in ("mean", "std"))
    recipe, parts = Recipe(**kept.get("recipe", {})), (bundle.unet.eval(), bundle.encoders.eval())
    return sample_images(*parts, captions, scale, choice.steps, guidance_scale, choice.size // 4, recipe)


@torch.no_grad()
def draw_truth(chosen: Sequence[Case], size: int) -> np.ndarray:
    """Give the world's own pictures, as near as latents of that size can hold them."""
    vae, images = load_vae(), np.stack([render(scene, SIZE).image for _, scene, _ in chosen])
    latents = torch.from_numpy(encode(vae, images, torch.device("cpu"))).float()
    return decode_images(vae, torch.nn.functional.avg_pool2d(latents, SIZE // size))


def score(judge: Judge, chosen: Sequence[Case], images: np.ndarray) -> list[Score]:
    """Judge pictures of captions, enlarged to the world's size."""
    scores = []
    for (_, scene, caption), image in zip(chosen, images, strict=True):
        large = np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
        scores.append(score_verdict(judge.judge(large), expect_caption(scene, caption), SIZE, {}, caption.text))
    return scores


def add_row(result: dict[str, dict[str, object]], name: str, scores: list[Score]) -> None:
    """Print one row of the table and keep it."""
    table = summarise(scores)
    cells = [
        f"{100 * one.mean:.1f} ({100 * one.low:.1f}-{100 * one.high:.1f})" if (one := table.get(column)) else "-"
        for column in SHOWN
    ]
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    result[name] = {"estimates": {key: vars(value) for key, value in table.items()}}
    result[name]["scores"] = [one.model_dump(mode="json") for one in scores]


def main() -> None:
    """Draw, judge, print a Markdown table in per cent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--captions", type=int, default=200)
    parser.add_argument("--guidance", type=float, nargs="+", default=[5.0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--size", type=int, default=SIZE // 2, choices=(SIZE // 2, SIZE), help="as they were trained")
    parser.add_argument("--out", type=Path, default=WORK / "compared")
    choice = parser.parse_args()
    names = [folder.resolve().name for folder in choice.folders]
    if len(set(names)) < len(names):
        raise SystemExit("Two folders have the same name, so their rows could not be told apart; rename one.")
    if missing := [folder for folder in choice.folders if not (folder / "unet.pt").is_file()]:
        raise SystemExit(f"{missing[0]} holds no unet.pt; train it with scripts/mini/train_unet.py.")
    chosen, judge = list(cases(choice.captions, part=4)), load_judge()
    captions = [caption.text for _, _, caption in chosen]
    choice.out.mkdir(parents=True, exist_ok=True)
    print(f"| | {' | '.join(SHOWN)} |\n|{'---|' * (1 + len(SHOWN))}")
    result: dict[str, dict[str, object]] = {}
    add_row(result, "true", score(judge, chosen, draw_truth(chosen, choice.size)))
    for title, folder in zip(names, choice.folders, strict=True):
        for scale in choice.guidance:
            images = draw(folder, captions, scale, choice)
            name = f"{title} w {scale:g}"
            add_row(result, name, score(judge, chosen, images))
            write_png(choice.out / f"{name.replace(' ', '-')}.png", contact_sheet(list(images[:32]), columns=8))
            write_file(choice.out / "compared.json", json.dumps(result, indent=1).encode())


if __name__ == "__main__":
    main()
