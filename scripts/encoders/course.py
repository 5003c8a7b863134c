"""What the trainings of the CLIP and the ViT share: options, the loop with its checkpoints, and the written weights."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from models import ASSETS, WORK, Done, StopWatch, write_encoder
from torch import Tensor, nn
from transformers import PreTrainedModel

sys.path.append(str(Path(__file__).resolve().parents[1] / "mini"))  # the base's scripts
from common import (  # noqa: E402
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
from muon import Muon  # noqa: E402

RATE, DECAY = 1.5e-3, 0.05
LOG_EVERY, WARM_UP, SAVE_EVERY = 25, 60, 250


@dataclass(frozen=True, eq=False)
class Course:
    """What learns, and from what.

    Attributes:
        name: of the checkpoint and the log.
        model: learns.
        average: follows the model; its weights are the ones that are written.
        extra: what the checkpoint keeps besides; its parameters learn too.
        towers: the parts of the model that are called.
        taught: the losses that teach; all others are only logged.
        follow: how much of itself the average keeps in a late step, and how many steps it takes to become slow.
    """

    name: str
    model: nn.Module
    average: nn.Module
    extra: nn.Module
    towers: tuple[nn.Module, ...]
    taught: tuple[str, ...]
    follow: tuple[float, int]

    @property
    def kept(self) -> dict[str, nn.Module]:
        """What a checkpoint holds, by its name there."""
        return {"model": self.model, "average": self.average, "extra": self.extra}


def make_parser(about: str | None, name: str, batch: int) -> argparse.ArgumentParser:
    """Make the options that both trainings have."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--steps", type=int, default=10**9)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--export", action="store_true", help="write the weights into the package")
    parser.add_argument("--assets", type=Path, default=ASSETS / name, help="where")
    add_time(parser)
    return parser


def run(
    choice: argparse.Namespace,
    name: str,
    train: Callable[[Clock, argparse.Namespace], None],
    build: Callable[[], PreTrainedModel],
) -> None:
    """Train, then write the averaged weights as a folder of transformers."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    if choice.steps and choice.minutes != 0:
        train(Clock(choice.steps, choice.minutes, choice.cool, BEGAN), choice)
    if choice.export:
        model = build()
        model.load_state_dict(torch.load(WORK / f"{name}.pt", weights_only=True, map_location="cpu")["average"])
        write_encoder(model, choice.assets)
        print(f"written: {choice.assets}", flush=True)


def learn(course: Course, lesson: Callable[[int], dict[str, Tensor]], clock: Clock, batch: int, rate: float) -> None:
    """Go on from the last checkpoint until the time is over; ``lesson`` gives the losses of a step."""
    parameters = [one for part in (course.model, course.extra) for one in part.parameters() if one.requires_grad]
    form = choose_device()[1]
    optimiser = Muon(course.model, rate, DECAY, others=list(course.extra.parameters()), form=form)
    # The towers alone: pictures are disturbed, and vectors compared, in float32.
    for tower in course.towers:
        tower.forward = autocast(parameters[0].device, form)(tower.forward)
    step, cold, spent = begin(course, optimiser)
    start, (most, late) = step, course.follow
    clock.entered, watch = time.time(), StopWatch(parameters[0].device, spent)
    sums: dict[str, float] = {}
    while not clock.over(step):
        now = rate * min(1, (step - cold + 1) / WARM_UP) * clock.fall(cosine(step, clock.steps))
        optimiser.set_rate(now)
        losses = lesson(step)
        optimiser.zero_grad()
        sum(losses[part] for part in course.taught).backward()
        optimiser.step()
        blend_average(course.average, course.model, 1 - min(most, (step + 1) / (step + late)))
        for key, value in losses.items():
            sums[key] = sums.get(key, 0.0) + float(value.detach())
        step += 1
        if step % LOG_EVERY == 0:
            speed = (step - start) * batch / (time.time() - clock.entered)
            means = {key: value / min(LOG_EVERY, step - start) for key, value in sums.items()}
            log(course.name, WORK, step=step, images_per_second=speed, rate=now, **means)
            sums = {}
        if clock.due() or clock.over(step) or step % SAVE_EVERY == 0:
            state = {name: part.state_dict() for name, part in course.kept.items()}
            facts = {"step": step, "seconds": watch.read()}
            save_atomically({**state, "optimiser": optimiser.state_dict(), **facts}, WORK / f"{course.name}.pt")


def begin(course: Course, optimiser: Muon) -> Done:
    """Read the last checkpoint, where there is one; gives what is done."""
    path = WORK / f"{course.name}.pt"
    if not path.exists():
        return Done(0, 0, {})
    state = torch.load(path, weights_only=True, map_location="cpu")
    for name, part in course.kept.items():
        # Weights restored from the package have nothing besides.
        if state[name]:
            part.load_state_dict(state[name])
    done, spent = int(state["step"]), state.get("seconds", {})
    if "optimiser" not in state:
        return Done(done, done, spent)
    optimiser.load_state_dict(state["optimiser"])
    return Done(done, 0, spent)
