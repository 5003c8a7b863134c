"""A results folder that no model made: records of the data model, numbers from a generator, pictures of the world."""

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from d2plan.bench.records import (
    BaseRecord,
    ConceptRecord,
    Cost,
    DrawingRecord,
    Failure,
    InstanceValues,
    LearnRecord,
    Machine,
    MethodRecord,
    PictureRecord,
    Results,
    SeriesRecord,
    ShotRecord,
    SuiteRecord,
    TunedSetting,
)
from d2plan.bench.store import RESULTS
from d2plan.world.cast import identity_from_seed, near_identity
from d2plan.world.scene import WorldScene, arrange, sample_figure
from d2plan.world.truth import render

CAST = (("man", 7, "person"), ("dog", 3, "animal"), ("woman", 11, "person"), ("teapot", 5, "thing"))
PLACES = ("beach", "forest", "city")
WORN = (None, "sunglasses", "hat")
PAIRS = ((0, 1), (0, 2), (1, 3))
SIZE = 32


@dataclass(frozen=True)
class Kind:
    """How good a made-up method is."""

    title: str
    identity: float
    loss: float
    steady: float
    rows: int
    seconds: float
    validated: bool | None = True


KINDS = {
    "isp-dislora": Kind("ISP + DisLoRA", 0.70, 0.01, 0.86, 105, 4.2),
    "isp-lora": Kind("ISP + LoRA", 0.68, 0.03, 0.85, 105, 4.1),
    "lora-merge": Kind("LoRA merge", 0.67, 0.20, 0.70, 60, 2.4),
    "dreambooth": Kind("DreamBooth", 0.62, 0.22, 0.66, 60, 2.3),
    "textual-inversion": Kind("Textual Inversion", 0.31, 0.05, 0.64, 60, 2.4, validated=False),
    "mix-of-show": Kind("Mix-of-Show", 0.66, 0.06, 0.78, 60, 2.9),
}
ABLATION = {
    "full": Kind("Full ISP", 0.70, 0.01, 0.86, 105, 4.2),
    "no-cac": Kind("CAC off", 0.62, 0.03, 0.87, 105, 4.0),
    "no-cnc": Kind("CNC off", 0.40, 0.10, 0.60, 60, 2.6),
}


def make_results(
    folder: Path | None = None, methods: dict[str, Kind] = KINDS, kind: str = "spatial", seeds: int = 1
) -> Results:
    """Give made-up results, and write them with their pictures into a folder; Mix-of-Show fails to join one pair."""
    shots = list_shots(seeds)
    concepts = tuple(
        ConceptRecord(
            name=f"{word}-{seed}", class_word=word, identifier=f"<v{place + 1}>", kind=kind_of, seed=seed, images=4,
            folder=f"concepts/{word}-{seed}", digest=f"{place:08x}",
        )
        for place, (word, seed, kind_of) in enumerate(CAST)
    )  # fmt: skip
    if folder is not None:
        for place, one in enumerate(concepts):
            for number in range(4):
                save(folder / one.folder / f"{number:02d}.png", draw((place,), PLACES[number % 3], None, number, 0))
    results = Results(
        kind=kind,
        suite=SuiteRecord(name="made-up", digest="5eed5eed", concepts=concepts, shots=tuple(shots)),
        base=BaseRecord(name="mini", fingerprint="0123456789abcdef"),
        drawing=DrawingRecord(steps=30, guidance_scale=3.0, height=128, width=128),
        machine=Machine(system="Linux x86_64", processor="a made-up processor", cores=2, device="cpu",
                        packages={"d2plan": "0.1.0", "torch": "2.13.0"}),
        commit="0123abc",
        encoders={"clip": "mini-clip 0a1b2c", "dino": "mini-vit 3d4e5f", "identity": "judge 6a7b8c",
                  "judge": "judge 6a7b8c"},
        finished=True,
        methods=tuple(run_method(folder, name, one, shots, place)
                      for place, (name, one) in enumerate(methods.items())),
    )  # fmt: skip
    if folder is not None:
        (folder / RESULTS).write_text(results.model_dump_json(indent=1), encoding="utf-8")
    return results


def list_shots(seeds: int) -> list[ShotRecord]:
    shots = []
    for part, groups in (("single", [(0,), (1,), (2,), (3,)]), ("multi", PAIRS)):
        for group in groups:
            names = tuple(f"{CAST[one][0]}-{CAST[one][1]}" for one in group)
            words = [CAST[one][0] for one in group]
            for place in PLACES:
                for worn in WORN:
                    for seed in range(seeds):
                        said = [f"<v{one + 1}> {word}" for one, word in zip(group, words, strict=True)]
                        extra = f" wearing a {worn}" if worn else ""
                        shots.append(
                            ShotRecord(
                                name=f"{part}-{'-'.join(names)}-{place}-{worn or 'plain'}-{seed}",
                                part=part,
                                prompt=f"{place}-{worn or 'plain'}",
                                changed=worn is not None,
                                series=f"{part}-{'-'.join(names)}-{place}-{seed}",
                                concepts=names,
                                global_prompt=f"a photo of a {' and a '.join(words)} on the {place}",
                                sub_prompts=tuple(f"a photo of a {one}{extra}" for one in said),
                                joint_prompt=f"a photo of a {' and a '.join(said)}{extra} on the {place}",
                                plain_prompt=f"a photo of a {' and a '.join(words)}{extra} on the {place}",
                                boxes=((0.0, 0.1, 0.5, 1.0), (0.5, 0.1, 1.0, 1.0))[: len(group)],
                                seed=seed,
                            )
                        )
    return shots


def run_method(folder: Path | None, name: str, kind: Kind, shots: list[ShotRecord], place: int) -> MethodRecord:
    lost = ("man-7", "woman-11") if name == "mix-of-show" else ()
    kept = [shot for shot in shots if shot.concepts != lost]
    drawn = []
    for number, shot in enumerate(kept):
        image = f"methods/{name}/runs/{shot.name}/image.png"
        if folder is not None:
            group = tuple(index for index, one in enumerate(CAST) if f"{one[0]}-{one[1]}" in shot.concepts)
            place_name, worn = shot.prompt.split("-")
            change = round(4 * (0.7 - kind.identity))
            save(folder / image, draw(group, place_name, worn, shot.seed, change))
        drawn.append(score(shot, kind, image, np.random.default_rng([place, number])))
    series: dict[str, ShotRecord] = {shot.series: shot for shot in kept if shot.series}
    return MethodRecord(
        name=name,
        title=kind.title,
        source=f"A made-up method; it follows {kind.title}.",
        code="c0de" * 4,
        setting={"rate": 1.0},
        chosen="tuned here" if name != "isp-lora" else "first",
        tuning=(TunedSetting(setting={"rate": 1.0}, value=0.7, seconds=60.0),
                TunedSetting(setting={"rate": 3.0}, trouble="the loss is not finite")) if name != "isp-lora" else (),
        validated=kind.validated,
        learned=tuple(LearnRecord(concepts=(f"{word}-{seed}",), state_bytes=1_900_000,
                                  cost=Cost(seconds=40 + kind.seconds * index, unet_rows=3200, unet_calls=400,
                                            peak_mib=1100.0)) for index, (word, seed, _) in enumerate(CAST)),
        joined=tuple(LearnRecord(concepts=tuple(f"{CAST[one][0]}-{CAST[one][1]}" for one in pair),
                                 cost=Cost(seconds=31.0, peak_mib=1300.0), state_bytes=900_000)
                     for pair in PAIRS) if name == "mix-of-show" else (),
        pictures=tuple(drawn),
        series=tuple(SeriesRecord(series=key, part=shot.part, concepts=shot.concepts,
                                  values=score_series(shot, kind, np.random.default_rng([place, 99, number])))
                     for number, (key, shot) in enumerate(series.items())),
        failures=(Failure(stage="join", concepts=lost, message="the matrix of the fusion is singular",
                          shots=tuple(shot.name for shot in shots if shot.concepts == lost)),) if lost else (),
    )  # fmt: skip


def score(shot: ShotRecord, kind: Kind, image: str, rng: np.random.Generator) -> PictureRecord:
    several = shot.part == "multi"
    # What a prompt or concept does to all methods alike; paired differences take it out.
    shared = np.random.default_rng(sum(map(ord, "".join(shot.concepts) + shot.prompt))).normal(0, 0.06)
    instances = []
    for concept in shot.concepts:
        identity = float(np.clip(kind.identity - several * kind.loss + shared + rng.normal(0, 0.05), 0, 1))
        instances.append(InstanceValues(concept=concept, values={
            "identity": identity, "identity_found": identity if identity > 0.2 else None,
            "image_instance": identity * 0.5 + 0.4, "dino_instance": identity * 0.6 + 0.2,
            "first_of_20": float(identity > 0.6), "present": 1.0, "attributes": float(identity > 0.5) if shot.changed
            else None, "swapped": float(several and rng.random() < kind.loss),
        }))  # fmt: skip
    values = {key: mean_of([one.values[key] for one in instances]) for key in instances[0].values}
    text = 0.28 + 0.02 * kind.identity + rng.normal(0, 0.01)
    whole = 0.72 + 0.06 * kind.identity - several * 0.1 * kind.loss + rng.normal(0, 0.01)
    values |= {"text": text, "text_scaled": 2.5 * text, "image": whole, "dino": whole - 0.2, "place": 1.0}
    cost = Cost(
        seconds=kind.seconds, unet_rows=kind.rows + 35 * (len(shot.concepts) - 1), unet_calls=30, peak_mib=900.0
    )
    return PictureRecord(shot=shot.name, image=image, cost=cost, values=values, instances=tuple(instances))


def score_series(shot: ShotRecord, kind: Kind, rng: np.random.Generator) -> dict[str, float | None]:
    value = kind.steady - (shot.part == "multi") * kind.loss / 2 + rng.normal(0, 0.02)
    return {"consistency_adjacent": value + 0.01, "consistency_all": value, "scene_kept": value - 0.1}


def mean_of(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


@functools.cache
def draw(group: tuple[int, ...], place: str, worn: str | None, seed: int, changes: int) -> np.ndarray:
    rng = np.random.default_rng([seed, len(group)])
    figures = []
    for one in group:
        word, who, _ = CAST[one]
        identity = identity_from_seed(word, who)
        for turn in range(changes):
            identity = near_identity(identity, np.random.default_rng([seed, one, turn]))
        wears = None if worn in (None, "plain") else worn
        figure = replace(sample_figure(identity, rng, len(group)), accessory=wears)
        figures.append(replace(figure, accessory_colour="red" if wears else None))
    return render(WorldScene(place, "day", arrange(figures, rng), seed), SIZE).image


def save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
