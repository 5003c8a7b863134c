"""Train the judge's networks on the world.

Command: python scripts/judge/train.py --steps 3000 [--only segmenter] (resumes from the last checkpoint of each
network; more steps later train on). ``--export`` writes the averaged weights into the package.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from augment import VAE, load_vae, round_trip
from data import WORK, Scenes, load_shards, make_shards
from lessons import (
    ArcMargin,
    Loss,
    Pool,
    attributes_loss,
    fold_spread,
    identity_loss,
    place_loss,
    segment_all,
    segmenter_loss,
)
from torch import nn

from d2plan.eval.networks import PARTS, Networks, build_networks, load_networks, save_networks

BATCH = {"segmenter": 24, "attributes": 64, "place": 64, "identity": 96}
RATE = {"segmenter": 3e-3, "attributes": 2e-3, "place": 2e-3, "identity": 1.5e-3}
ASSETS = Path(__file__).resolve().parents[2] / "src" / "d2plan" / "assets" / "judge"
EXTRA_RATE = 4.0
LOG_EVERY, SAVE_EVERY = 50, 250


def save_atomically(state: dict[str, object], path: Path) -> None:
    """Write a checkpoint so that the last complete one always loads."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def log(name: str, **values: float) -> None:
    """Append one line of numbers to a log and print it."""
    line = {"time": round(time.time(), 1), **{key: round(float(value), 4) for key, value in values.items()}}
    with (WORK / f"{name}.log.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(name, json.dumps(line), flush=True)


def load_with_trips(paths: list[Path], every: int) -> Scenes:
    """Read shards; every n-th picture comes back from the embedded autoencoder, where there is one, and is kept."""
    scenes = load_shards(paths)
    vae = load_vae() if every else None
    if vae is None:
        return scenes
    begin = 0
    for path in paths:
        with np.load(path) as content:
            count = len(content["whole"])
        kept = path.with_name(f"{path.stem}.trip-{every}-{int(VAE.stat().st_mtime)}.npy")
        chosen = slice(begin, begin + count, every)
        if not kept.exists():
            temporary = kept.with_suffix(".tmp.npy")
            np.save(temporary, round_trip(vae, scenes.images[chosen], jitter=0.05))
            temporary.replace(kept)
        scenes.images[chosen] = np.load(kept)
        begin += count
    return scenes


def load_seen(paths: list[Path], scenes: Scenes) -> np.ndarray | None:
    """Give the exported segmenter's masks of the pictures, kept beside the shards; None before there is one.

    The heads that read instances must live with the masks that they will get, not with perfect ones.
    """
    weights = ASSETS / "segmenter" / "model.safetensors"
    if not weights.exists():
        return None
    segmenter = load_networks(ASSETS).segmenter.to(memory_format=torch.channels_last)
    mark = hashlib.sha256(weights.read_bytes()).hexdigest()[:8]
    parts, begin = [], 0
    for path in paths:
        with np.load(path) as content:
            count = len(content["whole"])
        kept = path.with_name(f"{path.stem}.seen-{mark}.npy")
        if not kept.exists():
            chosen = slice(begin, begin + count)
            temporary = kept.with_suffix(".tmp.npy")
            np.save(temporary, segment_all(segmenter, scenes.images[chosen], scenes.owners[chosen]))
            temporary.replace(kept)
        parts.append(np.load(kept))
        begin += count
    return np.concatenate(parts)


def begin_identity(networks: Networks) -> None:
    """Let the identity encoder begin with the eyes of the attributes network, which has the same shape."""
    path = WORK / "attributes.pt"
    if path.exists():
        kept = torch.load(path, weights_only=True)["average"]
        eyes = {key: value for key, value in kept.items() if key.startswith("resnet.")}
        networks.identity.load_state_dict(eyes, strict=False)


def train(name: str, network: nn.Module, extra: nn.Module, loss: Loss, steps: int) -> None:
    """Train one network until the wanted number of steps; a longer run warms up again from its checkpoint."""
    path = WORK / f"{name}.pt"
    average = type(network)(network.config)
    average.load_state_dict(network.state_dict())
    parameters = [*network.parameters(), *extra.parameters()]
    groups = [{"params": list(part.parameters())} for part in (network, extra)]
    optimiser = torch.optim.AdamW([group for group in groups if group["params"]], lr=RATE[name], weight_decay=0.02)
    start = 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        network.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        start = int(state["step"])
        if all(state["extra"][key].shape == value.shape for key, value in extra.state_dict().items()):
            extra.load_state_dict(state["extra"])
            optimiser.load_state_dict(state["optimiser"])
    if start >= steps:
        return
    network.train()
    network.to(memory_format=torch.channels_last)
    began = time.process_time()
    sums: dict[str, float] = {}
    for step in range(start, steps):
        fall = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps))
        rate = RATE[name] * min(1, (step - start + 1) / 100) * fall
        for group, times in zip(optimiser.param_groups, (1.0, EXTRA_RATE), strict=False):
            group["lr"] = rate * times
        value, parts = loss(step)
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 2.0)
        optimiser.step()
        blend_average(average, network, 1 - min(0.995, (step + 1) / (step + 20)))
        for key, number in {"loss": value.item(), **parts}.items():
            sums[key] = sums.get(key, 0.0) + number
        if (step + 1) % LOG_EVERY == 0:
            seconds = time.process_time() - began
            log(name, step=step + 1, cpu_seconds=seconds, **{key: number / LOG_EVERY for key, number in sums.items()})
            sums = {}
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            state = {"model": network.state_dict(), "average": average.state_dict(), "extra": extra.state_dict()}
            save_atomically({**state, "optimiser": optimiser.state_dict(), "step": step + 1}, path)


@torch.no_grad()
def blend_average(average: nn.Module, network: nn.Module, share: float) -> None:
    """Move the average a little towards the network; counters are copied."""
    for kept, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(value, share)
        else:
            kept.copy_(value)


def export(networks: Networks, folder: Path) -> None:
    """Write the averaged weights of all networks that were trained."""
    for name, network in networks.parts().items():
        path = WORK / f"{name}.pt"
        if path.exists():
            state = torch.load(path, weights_only=True)
            network.load_state_dict(state["average"])
            if name == "identity":
                spread = (state["extra"]["spread.running_mean"], state["extra"]["spread.running_var"])
                fold_spread(network.classifier[-1], *spread)
    save_networks(networks, folder)
    print(f"written: {folder}", flush=True)


def main() -> None:
    """Train what is wanted, then export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--scenes", type=int, default=10_000)
    parser.add_argument("--groups", type=int, default=1200)
    parser.add_argument("--trips", type=int, default=4, help="every n-th picture goes through the VAE; 0: none")
    parser.add_argument("--export", action="store_true", help="write the weights into the package")
    choice = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    WORK.mkdir(parents=True, exist_ok=True)
    networks = build_networks()
    wanted = [choice.only] if choice.only else list(PARTS)
    kinds = {"identity": "groups"}
    for name in wanted if choice.steps else []:
        kind = kinds.get(name, "scenes")
        count = choice.groups if kind == "groups" else choice.scenes
        paths = make_shards(kind, "judge", count)
        scenes = load_with_trips(paths, choice.trips)
        pool = Pool(scenes, BATCH[name], load_seen(paths, scenes) if name in ("attributes", "identity") else None)
        if name == "identity":
            begin_identity(networks)
        margin = ArcMargin(int(scenes.identities.max()) + 1) if name == "identity" else nn.Module()
        losses = {"segmenter": segmenter_loss, "attributes": attributes_loss, "place": place_loss}
        loss = identity_loss(networks, pool, margin) if name == "identity" else losses[name](networks, pool)
        train(name, getattr(networks, name), margin, loss, choice.steps)
    if choice.export:
        export(networks, ASSETS)


if __name__ == "__main__":
    main()
