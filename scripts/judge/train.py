"""Train the judge's networks on the world.

Command: python scripts/judge/train.py --steps 3000 [--only segmenter] (resumes from the last checkpoint of each
network; more steps later train on). ``--export`` writes the averaged weights into the package. ``--minutes`` ends a
run by time instead; several networks share them.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import torch
from augment import VAE, load_vae, round_trip
from common import (
    BEGAN,
    Clock,
    add_time,
    autocast,
    blend_average,
    choose_device,
    cosine,
    log,
    save_atomically,
)
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
from muon import Muon
from torch import nn

from d2plan.eval.networks import PARTS, Networks, build_networks, load_networks, save_networks

BATCH = {"segmenter": 24, "attributes": 64, "place": 64, "identity": 96}
RATE = {"segmenter": 3e-3, "attributes": 2e-3, "place": 2e-3, "identity": 1.5e-3}
ASSETS = Path(__file__).resolve().parents[2] / "src" / "d2plan" / "assets" / "judge"
EXTRA_RATE = 4.0
LOG_EVERY, SAVE_EVERY = 50, 250
ON_GPU = 2  # times as many at once


def times_batch() -> int:
    """Say how many times BATCH is taken here."""
    return ON_GPU if torch.cuda.is_available() else 1


def load_with_trips(paths: list[Path], every: int) -> Scenes:
    """Read shards; every n-th picture comes back from the embedded autoencoder, where there is one, and is kept."""
    scenes = load_shards(paths)
    vae = load_vae() if every else None
    if vae is None:
        return scenes
    device, form = choose_device()
    vae = vae.to(device)
    begin = 0
    for path in paths:
        with np.load(path) as content:
            count = len(content["whole"])
        kept = path.with_name(f"{path.stem}.trip-{every}-{int(VAE.stat().st_mtime)}.npy")
        chosen = slice(begin, begin + count, every)
        if not kept.exists():
            # Two networks may be taught at once.
            temporary = kept.with_suffix(f".{os.getpid()}.tmp.npy")
            with autocast(device, form):
                trips = round_trip(vae, scenes.images[chosen], jitter=0.05)
            np.save(temporary, trips)
            temporary.replace(kept)
        scenes.images[chosen] = np.load(kept)
        begin += count
    return scenes


def _find_seen(job: tuple[Path, np.ndarray, np.ndarray, Path]) -> None:
    assets, images, owners, kept = job
    segmenter = load_networks(assets).segmenter.to(memory_format=torch.channels_last)
    temporary = kept.with_suffix(f".{os.getpid()}.tmp.npy")
    np.save(temporary, segment_all(segmenter, images, owners))
    temporary.replace(kept)


def _one_thread() -> None:
    torch.set_num_threads(1)


def load_seen(paths: list[Path], scenes: Scenes, assets: Path, workers: int = 1) -> np.ndarray | None:
    """Give the exported segmenter's masks of the pictures, kept beside the shards; None before there is one.

    The heads that read instances must live with the masks that they will get, not with perfect ones.
    """
    weights = assets / "segmenter" / "model.safetensors"
    if not weights.exists():
        return None
    mark = hashlib.sha256(weights.read_bytes()).hexdigest()[:8]
    jobs, begin = [], 0
    for path in paths:
        with np.load(path) as content:
            part = slice(begin, begin + len(content["whole"]))
        kept = path.with_name(f"{path.stem}.seen-{mark}.npy")
        jobs.append((assets, scenes.images[part], scenes.owners[part], kept))
        begin = part.stop
    missing = [job for job in jobs if not job[-1].exists()]
    if workers < 2 or len(missing) < 2:
        for job in missing:
            _find_seen(job)
    else:
        # Parting the segmenter's output into instances is a CPU's work; a process with a GPU must not be forked.
        with multiprocessing.get_context("spawn").Pool(min(workers, len(missing)), _one_thread) as pool:
            pool.map(_find_seen, missing, chunksize=1)
    return np.concatenate([np.load(job[-1]) for job in jobs])


def begin_identity(networks: Networks) -> None:
    """Let the identity encoder begin with the eyes of the attributes network, which has the same shape."""
    path = WORK / "attributes.pt"
    if path.exists():
        kept = torch.load(path, weights_only=True, map_location="cpu")["average"]
        eyes = {key: value for key, value in kept.items() if key.startswith("resnet.")}
        networks.identity.load_state_dict(eyes, strict=False)


def begin(name: str, network: nn.Module, average: nn.Module, extra: nn.Module, optimiser: Muon) -> int:
    """Go on from the last checkpoint, where there is one; gives the steps that are done."""
    path = WORK / f"{name}.pt"
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location="cpu")
    network.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    own = extra.state_dict()
    if state["extra"].keys() == own.keys() and all(state["extra"][key].shape == own[key].shape for key in own):
        extra.load_state_dict(state["extra"])
        if "optimiser" in state:
            optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def train(name: str, network: nn.Module, extra: nn.Module, loss: Loss, clock: Clock) -> None:
    """Train one network until its time is over; a longer run warms up again from its checkpoint."""
    device, form = choose_device()
    average = type(network)(network.config)
    average.load_state_dict(network.state_dict())
    network, average = (one.to(device, memory_format=torch.channels_last) for one in (network, average))
    extra.to(device)
    optimiser = Muon(network, RATE[name], 0.02, others=list(extra.parameters()), form=form)
    start = step = begin(name, network, average, extra, optimiser)
    # The network alone: pictures are disturbed, and angles taken, in float32.
    network.forward = autocast(device, form)(network.forward)
    network.train()
    clock.entered, began = time.time(), time.process_time()
    sums: dict[str, torch.Tensor] = {}
    while not clock.over(step):
        rate = RATE[name] * min(1, (step - start + 1) / 100) * clock.fall(cosine(step, clock.steps, 0.01))
        optimiser.set_rate(rate, EXTRA_RATE * rate)
        value, parts = loss(step)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        blend_average(average, network, 1 - min(0.995, (step + 1) / (step + 20)))
        for key, number in {"loss": value, **parts}.items():
            sums[key] = sums.get(key, 0.0) + number.detach()
        step += 1
        last = clock.over(step)
        if step % LOG_EVERY == 0:
            means = {key: number.item() / LOG_EVERY for key, number in sums.items()}
            speed = (step - start) * BATCH[name] * times_batch() / (time.time() - clock.entered)
            seconds = time.process_time() - began
            log(name, WORK, step=step, cpu_seconds=seconds, images_per_second=speed, **means)
            sums = {}
        if clock.due() or (clock.seconds is None and step % SAVE_EVERY == 0) or last:
            state = {"model": network.state_dict(), "average": average.state_dict(), "extra": extra.state_dict()}
            save_atomically({**state, "optimiser": optimiser.state_dict(), "step": step}, WORK / f"{name}.pt")


def export(networks: Networks, folder: Path) -> None:
    """Write the averaged weights of all networks that were trained; the folder's others stay."""
    earlier = load_networks(folder).parts() if (folder / PARTS[0]).exists() else {}
    for name, network in networks.parts().items():
        path = WORK / f"{name}.pt"
        if path.exists():
            state = torch.load(path, weights_only=True, map_location="cpu")
            network.load_state_dict(state["average"])
            # Restored weights have it folded in already.
            if name == "identity" and state["extra"]:
                spread = (state["extra"]["spread.running_mean"], state["extra"]["spread.running_var"])
                fold_spread(network.classifier[-1], *spread)
        elif name in earlier:
            network.load_state_dict(earlier[name].state_dict())
    save_networks(networks, folder)
    print(f"written: {folder}", flush=True)


def read_choice() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--scenes", type=int, default=10_000)
    parser.add_argument("--groups", type=int, default=1200)
    parser.add_argument("--trips", type=int, default=4, help="every n-th picture goes through the VAE; 0: none")
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare what is learnt from")
    parser.add_argument("--assets", type=Path, default=ASSETS, help="where the segmenter is read and all is written")
    parser.add_argument("--export", action="store_true", help="write the weights into the package")
    add_time(parser)
    return parser.parse_args()


def teach(name: str, networks: Networks, choice: argparse.Namespace, clock: Clock) -> None:
    """Gather what a network learns from and train it."""
    kind = "groups" if name == "identity" else "scenes"
    paths = make_shards(kind, "judge", choice.groups if kind == "groups" else choice.scenes, choice.workers)
    scenes = load_with_trips(paths, choice.trips)
    sighted = name in ("attributes", "identity")
    seen = load_seen(paths, scenes, choice.assets, choice.workers) if sighted else None
    pool = Pool(scenes, BATCH[name] * times_batch(), seen, choose_device()[0])
    if name == "identity":
        begin_identity(networks)
    margin = ArcMargin(int(scenes.identities.max()) + 1) if name == "identity" else nn.Module()
    losses = {"segmenter": segmenter_loss, "attributes": attributes_loss, "place": place_loss}
    loss = identity_loss(networks, pool, margin) if name == "identity" else losses[name](networks, pool)
    train(name, getattr(networks, name), margin, loss, clock)


def main() -> None:
    """Train what is wanted, then export."""
    choice = read_choice()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    WORK.mkdir(parents=True, exist_ok=True)
    networks = build_networks()
    wanted = [choice.only] if choice.only else list(PARTS)
    for place, name in enumerate(wanted if choice.steps else []):
        minutes = None if choice.minutes is None else choice.minutes * (place + 1) / len(wanted)
        teach(name, networks, choice, Clock(choice.steps, minutes, choice.cool, BEGAN))
    if choice.export:
        export(networks, choice.assets)


if __name__ == "__main__":
    main()
