"""Pack checkpoints of several trainings into few small files, and unpack them as checkpoints to go on from.

What travels: averaged weights as float16 and, where there is room, the U-Net's own as bfloat16; no optimiser, which
begins anew with a short warm-up. Each file is whole and at most 15 MiB; all files of a pack carry one stamp.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

MIB = 2**20
MOST_FILE, MOST_ALL, MOST_FILES = 15 * MIB, 60 * MIB, 6
JUDGES = ("segmenter", "attributes", "place", "identity")
ENCODERS = ("clip", "vit")
# A safetensors header's share of a tensor, generously.
_HEADER = 300
_SMALL = 16
_NOT_WEIGHTS = ("model", "average", "learnt", "extra", "optimiser")


def checkpoints(work: Path) -> dict[str, Path]:
    """Name the checkpoints of a working folder."""
    base = {name: work / "mini" / f"{name}.pt" for name in ("vae", "unet")}
    judges = {name: work / "judge" / f"{name}.pt" for name in JUDGES}
    encoders = {name: work / "encoders" / f"{name}.pt" for name in ENCODERS}
    return {**base, **judges, **encoders, "seine": work / "seine" / "train.pt"}


def _shrink(value: Tensor, form: torch.dtype) -> Tensor:
    keep = not value.dtype.is_floating_point or value.numel() <= _SMALL
    return (value if keep else value.to(form)).contiguous().clone()


def gather(work: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, dict[str, Any]]]:
    """Read all checkpoints: what must travel, what travels where there is room, and the plain facts of each."""
    needed, wished, facts = {}, {}, {}
    for part, path in checkpoints(work).items():
        if not path.exists():
            continue
        state = torch.load(path, weights_only=True, map_location="cpu")
        facts[part] = {key: value for key, value in state.items() if key not in _NOT_WEIGHTS}
        for kind in ("average", "extra"):
            for key, value in state.get(kind, {}).items():
                needed[f"{part}/{kind}/{key}"] = _shrink(value, torch.float16)
        if part == "unet":
            wished = {f"{part}/model/{key}": _shrink(value, torch.bfloat16) for key, value in state["model"].items()}
    if (work / "round.json").exists():
        facts["run"] = json.loads((work / "round.json").read_text())
    scale = work / "mini" / "latents.npz"
    if scale.exists():
        with np.load(scale) as file:
            needed |= {f"latents/{name}": torch.from_numpy(file[name]) for name in file.files}
    return needed, wished, facts


def _size(tensors: dict[str, Tensor]) -> int:
    return sum(one.numel() * one.element_size() + _HEADER for one in tensors.values())


def pack(work: Path, out: Path) -> list[Path]:
    """Write ``weights-1.safetensors`` and so on; gives the files.

    Args:
        work: has the folders mini, judge, encoders and seine.
        out: gets the files, each replaced at once; files of an earlier pack that are not needed go.

    Returns:
        The files, or none where nothing is trained yet.

    Raises:
        SystemExit: the averaged weights alone are too large.
    """
    needed, wished, facts = gather(work)
    if not needed:
        return []
    chosen = needed | (wished if _size(needed) + _size(wished) <= MOST_ALL else {})
    groups: list[dict[str, Tensor]] = [{}]
    for name, tensor in chosen.items():
        if groups[-1] and _size(groups[-1]) + _size({name: tensor}) > MOST_FILE:
            groups.append({})
        groups[-1][name] = tensor
    if len(groups) > MOST_FILES or _size(chosen) > MOST_ALL:
        raise SystemExit(
            f"the weights take {_size(chosen) / MIB:.0f} MiB, more than may travel; choose a smaller size."
        )
    out.mkdir(parents=True, exist_ok=True)
    labels = {"facts": json.dumps(facts), "stamp": str(time.time()), "count": str(len(groups))}
    paths = []
    for number, group in enumerate(groups, 1):
        temporary = work / f"weights-{number}.part"
        save_file(group, temporary, labels)
        temporary.chmod(0o644)
        paths.append(out / f"weights-{number}.safetensors")
        shutil.move(temporary, paths[-1])
    for path in set(out.glob("weights-*.safetensors")) - set(paths):
        path.unlink()
    return paths


def read_pack(folder: Path) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """Read a pack's tensors, in float32 again, and facts.

    Args:
        folder: what ``pack`` wrote into.

    Returns:
        Tensors by ``part/kind/name``, and each part's facts.

    Raises:
        SystemExit: there is no pack, or its files are not of one and the same.
    """
    paths = sorted(folder.glob("weights-*.safetensors"))
    tensors: dict[str, Tensor] = {}
    labels = []
    for path in paths:
        with safe_open(path, "pt") as file:
            labels.append(file.metadata())
            for name in file.keys():  # noqa: SIM118  (safe_open is no mapping)
                value = file.get_tensor(name)
                tensors[name] = value.float() if value.dtype.is_floating_point else value
    if not paths or len({label["stamp"] for label in labels}) > 1 or int(labels[0]["count"]) != len(paths):
        raise SystemExit(
            f"{folder} holds no whole pack (weights-1.safetensors and so on, all of one run); copy it anew."
        )
    return tensors, json.loads(labels[0]["facts"])


def unpack(folder: Path, work: Path) -> list[str]:
    """Write a pack as checkpoints into a working folder; gives the names of its parts."""
    tensors, facts = read_pack(folder)
    for part, path in checkpoints(work).items():
        if part not in facts:
            continue
        kinds: dict[str, dict[str, Tensor]] = {"extra": {}}
        for name, value in tensors.items():
            owner, kind, key = (*name.split("/", 2), "")[:3]
            if owner == part:
                kinds.setdefault(kind, {})[key] = value
        own = "learnt" if part == "seine" else "model"
        kinds.setdefault(own, {key: value.clone() for key, value in kinds["average"].items()})
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({**kinds, **facts[part]}, path)
    if "latents/mean" in tensors:
        np.savez(work / "mini" / "latents.npz", **{n: tensors[f"latents/{n}"].numpy() for n in ("mean", "std")})
    return [part for part in facts if part in checkpoints(work)]


def write_sheet(work: Path, out: Path) -> None:
    """Put the newest previews of autoencoder, U-Net and clips below one another into ``sheet.png``."""
    found = [work / "mini" / "vae.preview.png"]
    for folder, pattern in (("mini", "unet.preview-*.png"), ("seine", "preview-*.png")):
        found += sorted((work / folder).glob(pattern))[-1:]
    pictures = [Image.open(path).convert("RGB") for path in found if path.exists()]
    if not pictures:
        return
    sheet = Image.new("RGB", (max(one.width for one in pictures), sum(one.height + 8 for one in pictures)), "white")
    top = 0
    for one in pictures:
        sheet.paste(one, (0, top))
        top += one.height + 8
    out.mkdir(parents=True, exist_ok=True)
    # A sheet of many frames stays below what one file may take.
    sheet.thumbnail((2048, 4096))
    sheet.save(out / "sheet.png")


def write_log(work: Path, out: Path, most: int = 2 * MIB) -> None:
    """Join all logs and what the programs printed into ``log.txt``; of each the end."""
    paths = sorted([*work.glob("*/*.log.jsonl"), *work.glob("output/*.txt")])
    share = most // max(1, len(paths))
    parts = [f"== {path.relative_to(work)}\n{path.read_text(errors='replace')[-share:]}" for path in paths]
    out.mkdir(parents=True, exist_ok=True)
    (out / "log.txt").write_text("\n".join(parts))
