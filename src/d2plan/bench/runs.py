"""A picture of a method as a run folder: the picture, a record like any other run's, and what it cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from d2plan.bench.job import Entry, Job
from d2plan.bench.records import Cost, PictureRecord, ShotRecord
from d2plan.bench.store import (
    IMAGE,
    PICTURE,
    RUN,
    make_key,
    make_parent,
    read_record,
    relative_to,
    write_record,
)
from d2plan.bench.surroundings import describe_machine
from d2plan.documents import AdapterUse, Instance, MaskReport, RunRecord, Scene
from d2plan.media.images import is_whole, write_file, write_png

_METHOD = "method"


def write_picture(
    job: Job, entry: Entry, shot: ShotRecord, picture: NDArray[np.uint8], cost: Cost, key: str
) -> PictureRecord:
    """Write a picture's run folder; the record that makes it count comes last.

    Args:
        job: the benchmark.
        entry: who drew it.
        shot: what was asked.
        picture: ``[h, w, 3]``.
        cost: of this picture.
        key: of what decides it.

    Returns:
        The record, without scores.

    Raises:
        FileError: it cannot be written.
    """
    folder = job.store.run(entry.name, shot.name)
    make_parent(folder / IMAGE)
    write_png(folder / IMAGE, picture)
    record = _record_run(job, entry, shot, cost)
    write_file(folder / RUN, (record.model_dump_json(indent=2) + "\n").encode())
    drawn = PictureRecord(shot=shot.name, image=relative_to(folder / IMAGE, job.store.root), cost=cost)
    write_record(folder / PICTURE, drawn, key)
    return drawn


def read_drawn(job: Job, entry: Entry, shot: ShotRecord, key: str) -> PictureRecord | None:
    """Read the record of a picture that was drawn.

    Args:
        job: the benchmark.
        entry: who drew it.
        shot: what was asked.
        key: of what decides the picture.

    Returns:
        The record, without scores; None where the picture is not there or damaged, or came from something else.
    """
    folder = job.store.run(entry.name, shot.name)
    record = read_record(folder / PICTURE, PictureRecord, key)
    return record if record is not None and is_whole(folder / IMAGE) else None


def _record_run(job: Job, entry: Entry, shot: ShotRecord, cost: Cost) -> RunRecord:
    """Say of a picture what `d2plan score` reads; another method's picture cannot be made again as a composition."""
    concepts = {concept.name: concept for concept in job.suite.concepts}
    uses, instances = [], []
    for name, prompt in zip(shot.concepts, shot.sub_prompts, strict=True):
        concept, path = concepts[name], relative_to(job.state_path(entry, name), job.store.root)
        words = {"class_word": concept.class_word, "identifier": concept.identifier}
        uses.append(AdapterUse(path=path, name=name, sha256=make_key(job.state_key(entry, name)), **words))
        instances.append(Instance(concept=path, class_word=concept.class_word, sub_prompt=prompt))
    drawing, machine = job.drawing, describe_machine(job.backbone)
    scene = Scene(
        base=job.base.name,
        # Text alignment compares with the whole prompt, details included, here and in `d2plan score` alike.
        global_prompt=shot.plain_prompt,
        instances=tuple(instances),
        steps=drawing.steps,
        guidance_scale=drawing.guidance_scale,
        height=drawing.height,
        width=drawing.width,
        seed=shot.seed,
    )
    return RunRecord(
        scene=scene,
        base_fingerprint=job.base.fingerprint,
        adapters=tuple(uses),
        masks=MaskReport(route="none", confidence=0),
        timings={"draw": cost.seconds},
        unet_calls=cost.unet_calls,
        unet_rows=cost.unet_rows,
        versions=machine.packages,
        machine={"processor": machine.processor, "device": machine.device},
        settings={_METHOD: entry.name, **{name: str(value) for name, value in entry.setting.items()}},
        seed=shot.seed,
    )
