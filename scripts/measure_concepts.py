"""Measure concepts: who is recognised, alone and in pairs, against the base alone and against merged LoRAs.

The world's own pictures of the same characters, through the base's autoencoder, show the most that the judge can say.

Command: python scripts/measure_concepts.py --seeds development --identities 20 --pairs 20 --images 5 --time-limit 60

Prints a Markdown table with 95 % intervals over concepts or pairs and writes results.json. It may be stopped at any
point: adapters, pictures and scores are kept in ~/.cache/d2plan/concepts, and the same command goes on from there.
An adapter is learnt anew when the base, the training settings or the concept's pictures change; a picture is drawn
anew when its adapter, the composing settings or the code that draws changes; a score when the judge or the world does.
After a change of the training code, remove the folder ``adapters``. Runs on test seeds are logged in the notebook.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from concepts.plan import (
    AGAIN,
    BASE,
    COMPOSED,
    COMPOSITE,
    METHODS,
    OVER,
    PACKAGE,
    STREAMS,
    SWITCH,
    TRUTH,
    Concept,
    Shot,
    choose_concepts,
    digest,
    digest_code,
    digest_files,
    plan_all,
)
from concepts.rivals import draw_in_turns, draw_over, draw_plain, draw_truth, merge_adapters
from concepts.table import (
    ROOT,
    Record,
    add_record,
    average_seconds,
    change_settings,
    check_goals,
    describe_machine,
    find_open,
    log_test_run,
    make_table,
    read_commit,
    read_records,
    write_markdown,
)

from d2plan.adapter.file import Adapter, load_adapter
from d2plan.backbone.load import Backbone, load_backbone
from d2plan.config import DisLoRASettings, IspSettings
from d2plan.documents import InstanceScore, Score
from d2plan.eval.judge import Judge, load_judge
from d2plan.eval.lineup import build_lineup
from d2plan.eval.score import Lineup, expect_scene, score_verdict
from d2plan.isp.loop import compose_many
from d2plan.isp.prepare import prepare_scene
from d2plan.media.images import contact_sheet, read_image, write_file, write_png
from d2plan.workflows.composing.provenance import fingerprint_vae, read_versions
from d2plan.workflows.scoring.score import read_references
from d2plan.workflows.training.train import TrainOptions, train_concept
from d2plan.world.cast import identity_from_seed
from d2plan.world.folders import write_concept

WORK = Path(os.environ.get("D2PLAN_CONCEPTS_WORK", Path.home() / ".cache" / "d2plan" / "concepts"))
TRAIN_SEED = 0
RIVALS = Path(__file__).resolve().parent / "concepts" / "rivals.py"


@dataclass(eq=False)
class Bench:
    """Learns, draws and scores, and keeps what is done.

    Attributes:
        backbone: the base.
        judge: who looks.
        folder: where everything is kept.
        training: of each concept.
        composing: of each picture, by every method as far as it applies.
        records: all that were made, those of other settings too.
    """

    backbone: Backbone
    judge: Judge
    folder: Path
    training: DisLoRASettings
    composing: IspSettings
    records: list[Record] = field(init=False)
    drawn: set[str] = field(default_factory=set)
    train_keys: dict[str, str] = field(default_factory=dict)
    adapters: dict[str, Adapter] = field(default_factory=dict)
    lineups: dict[str, Lineup] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.records = read_records(self.folder / "records.jsonl")
        self.drawing_code = digest_code("isp", "backbone", "adapter")
        if self.backbone.dtype != torch.float32:
            self.drawing_code = digest(self.drawing_code, self.backbone.dtype_name)
        self.judging_code = digest(digest_files(PACKAGE / "assets" / "judge"), digest_code("eval", "world"))

    @property
    def facts(self) -> dict[str, object]:
        """Give the fingerprints of what numbers depend on."""
        return {
            "base": self.backbone.fingerprint,
            "precision": self.backbone.dtype_name,
            "judge": self.judging_code,
            "drawing": self.drawing_code,
        }

    def keep(self, kind: str, key: str, **values: object) -> None:
        """Write a record."""
        record: Record = {"kind": kind, "key": key, "time": round(time.time(), 1), **values}
        add_record(self.folder / "records.jsonl", record)
        self.records.append(record)

    def references(self, concept: Concept) -> Path:
        """Give the folder that a concept is learnt from; it is drawn on the first call."""
        folder = self.folder / "references" / concept.name
        if concept.name not in self.drawn:
            self.drawn.add(concept.name)
            write_concept(folder, concept.class_word, concept.seed, overwrite=True)
        return folder

    def train_key(self, concept: Concept) -> str:
        """Say what a concept's adapter depends on."""
        if concept.name not in self.train_keys:
            settings = (self.backbone.fingerprint, asdict(self.training), TRAIN_SEED)
            self.train_keys[concept.name] = digest(settings, asdict(concept), digest_files(self.references(concept)))
        return self.train_keys[concept.name]

    def adapter_path(self, concept: Concept) -> Path:
        """Name a concept's adapter file."""
        return self.folder / "adapters" / f"{concept.name}-{self.train_key(concept)}.safetensors"

    def draw_key(self, shot: Shot, method: str) -> str:
        """Say what a picture depends on."""
        if method == TRUTH:
            return digest(fingerprint_vae(self.backbone), digest_code("world"), asdict(shot))
        learnt = [] if method == BASE else [self.train_key(concept) for concept in shot.concepts]
        said = shot.scene([concept.name for concept in shot.concepts]).model_dump()
        names = ("steps", "guidance_scale")
        ours = method in (COMPOSED, OVER, AGAIN)
        settings = {name: v for name, v in asdict(self.composing).items() if ours or name in names}
        if method in (OVER, AGAIN):
            learnt = [*learnt, fingerprint_vae(self.backbone), digest_code("world"), RIVALS.read_text()]
        return digest(self.backbone.fingerprint, settings, self.drawing_code, method, learnt, said, shot.prompt(method))

    def score_key(self, shot: Shot, method: str) -> str:
        """Say what a score depends on."""
        return digest(self.draw_key(shot, method), self.judging_code)

    def picture_path(self, shot: Shot, method: str) -> Path:
        """Name a picture's file."""
        return self.folder / "pictures" / f"{shot.name}-{method}-{self.draw_key(shot, method)}.png"

    def learn(self, concept: Concept) -> None:
        """Train a concept, if it is not trained yet."""
        path = self.adapter_path(concept)
        if path.is_file():
            return
        began = time.perf_counter()
        train_concept(
            self.references(concept),
            path,
            concept.class_word,
            concept.identifier,
            # Opened anew, in the number format of training, whatever the pictures are drawn in.
            base=self.backbone.name,
            seed=TRAIN_SEED,
            name=concept.name,
            overwrite=True,
            **training_options(self.training),
        )
        seconds = time.perf_counter() - began
        self.keep("trained", self.train_key(concept), concept=concept.name, seconds=round(seconds, 1))
        print(f"learnt {concept.name} in {seconds:.0f} s", flush=True)

    def open_adapter(self, concept: Concept) -> Adapter:
        """Read a concept's adapter."""
        if concept.name not in self.adapters:
            self.adapters[concept.name] = load_adapter(self.adapter_path(concept))
        return self.adapters[concept.name]

    def draw(self, shots: Sequence[Shot], method: str) -> None:
        """Draw those pictures of one concept or pair that are missing."""
        missing = [shot for shot in shots if not self.picture_path(shot, method).is_file()]
        if not missing:
            return
        began = time.perf_counter()
        adapters = [] if method in (BASE, TRUTH) else [self.open_adapter(concept) for concept in shots[0].concepts]
        if method == COMPOSED:
            paths = [str(adapter.path) for adapter in adapters]
            scenes = [prepare_scene(self.backbone, s.scene(paths), adapters, self.composing) for s in missing]
            images = [one.image for one in compose_many(self.backbone, scenes, self.composing)]
        elif method in (OVER, AGAIN):
            images = draw_over(self.backbone, missing, method, adapters, self.composing)
        elif method == TRUTH:
            images = draw_truth(self.backbone, missing)
        elif method in (SWITCH, COMPOSITE):
            images = draw_in_turns(self.backbone, missing, method, adapters, self.composing)
        else:
            merged = merge_adapters(adapters) if adapters else None
            images = draw_plain(self.backbone, missing, method, merged, self.composing)
        seconds = (time.perf_counter() - began) / len(missing)
        for shot, image in zip(missing, images, strict=True):
            path = self.picture_path(shot, method)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_png(path, image)
            about = {"part": shot.part, "method": method, "shot": shot.name}
            self.keep("drawn", self.draw_key(shot, method), **about, seconds=round(seconds, 2))
        print(f"drew {len(missing)} of {shots[0].group}, {method}: {seconds:.1f} s each", flush=True)

    def score(self, shots: Sequence[Shot], method: str) -> None:
        """Judge those pictures of one concept or pair that were not judged yet."""
        keys = {self.score_key(shot, method): shot for shot in shots}
        missing = find_open(keys, self.records, "scored")
        verdicts = self.judge.judge_many([read_image(self.picture_path(keys[key], method)) for key in missing])
        for key, verdict in zip(missing, verdicts, strict=True):
            shot = keys[key]
            names = [concept.name for concept in shot.concepts]
            lineups = {concept.name: self.line_up(concept) for concept in shot.concepts}
            expected = expect_scene(shot.scene(names), names)
            score = score_verdict(verdict, expected, self.backbone.size[1], lineups, shot.name)
            about = {"part": shot.part, "method": method, "group": shot.group}
            self.keep("scored", key, **about, score=score.model_dump())

    def read_scores(self, shots: Sequence[Shot], method: str) -> list[InstanceScore]:
        """Give what the judge said of each instance of pictures that were judged, in their order."""
        known = {str(record["key"]): record["score"] for record in self.records if record["kind"] == "scored"}
        scores = [Score.model_validate(known[self.score_key(shot, method)]) for shot in shots]
        return [one for score in scores for one in score.instances]

    def line_up(self, concept: Concept) -> Lineup:
        """Give the 20 that a concept must be picked from: itself, 10 near, 9 far."""
        if concept.name not in self.lineups:
            word, pictures = concept.class_word, read_references(self.references(concept))
            identity = identity_from_seed(word, concept.seed)
            self.lineups[concept.name] = build_lineup(self.judge, word, pictures, identity, concept.seed)
        return self.lineups[concept.name]


def training_options(settings: DisLoRASettings) -> TrainOptions:
    """Give the settings that ``train_concept`` takes."""
    known = TrainOptions.__annotations__
    return TrainOptions(**{name: value for name, value in asdict(settings).items() if name in known})  # type: ignore[typeddict-item]


def work(bench: Bench, plan: Sequence[Sequence[Shot]], methods: Sequence[str], deadline: float) -> bool:
    """Do what is not done yet, and start nothing after the deadline; say whether all is done."""
    for shots in plan:
        for concept in shots[0].concepts if set(methods) - {BASE, TRUTH} else ():
            if time.monotonic() > deadline:
                return False
            bench.learn(concept)
        for method in methods:
            if time.monotonic() > deadline:
                return False
            bench.draw(shots, method)
            bench.score(shots, method)
    return True


def report(bench: Bench, choice: argparse.Namespace, plan: Sequence[Sequence[Shot]], about: dict[str, object]) -> str:
    """Write results.json and a sheet to look at; give the table."""
    wanted = {bench.score_key(shot, m): (shot, m) for shots in plan for shot in shots for m in choice.methods}
    done = {str(r["key"]): r for r in bench.records if r["kind"] == "scored" and r["key"] in wanted}
    table = make_table(done.values(), wanted)
    images = Counter((wanted[key][0].part, wanted[key][1]) for key in done)
    used = {*bench.train_keys.values(), *(bench.draw_key(*wanted[key]) for key in done)}
    content = {
        **about,
        "scored": f"{len(done)} of {len(wanted)}",
        "goals": check_goals(table),
        "table": {f"{part}, {m}": {c: asdict(v) for c, v in row.items()} for (part, m), row in table.items()},
        "seconds": average_seconds(bench.records, used),
    }
    out = choice.out or bench.folder / f"results-{choice.seeds}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, (json.dumps(content, indent=2) + "\n").encode())
    # One picture of each concept and pair, by every method side by side.
    shown = [(shots[0], method) for shots in plan for method in choice.methods]
    shown = [(shot, method) for shot, method in shown if bench.score_key(shot, method) in done]
    if shown:
        labels = [f"{method}: {shot.prompt(method)}" for shot, method in shown]
        pictures = [read_image(bench.picture_path(shot, method)) for shot, method in shown]
        write_png(out.with_suffix(".png"), contact_sheet(pictures, 2 * len(choice.methods), labels))
    print(f"{content['scored']} pictures scored; numbers in {out}")
    return write_markdown(table, images)


def main() -> None:
    """Measure, as far as the time allows, and print the table."""
    choice = read_arguments()
    commit = read_commit()
    backbone, judge = load_backbone(choice.base), load_judge()
    defaults = backbone.defaults
    training = change_settings(defaults.training(), choice.train, list(training_options(defaults.training())))
    bench = Bench(backbone, judge, choice.folder, training, change_settings(defaults.composing(), choice.compose))
    plan = plan_all(choose_concepts(choice.seeds, choice.identities, defaults.identifiers), choice.pairs, choice.images)
    about = {
        "machine": f"{describe_machine()}, {torch.get_num_threads()} threads",
        "commit": commit,
        "versions": read_versions(),
        "base": backbone.name,
        "base_fingerprint": backbone.fingerprint,
        "judge": bench.judging_code,
        "drawing": bench.drawing_code,
        "settings": {
            **{name: getattr(choice, name) for name in ("seeds", "identities", "pairs", "images", "methods")},
            "training": asdict(training),
            "composing": asdict(bench.composing),
        },
    }
    key = about["run"] = digest(*(about[name] for name in ("base_fingerprint", "judge", "drawing", "settings")))
    if choice.seeds == "test":
        said = f"{choice.identities} identities, {choice.pairs} pairs, {choice.images} images each"
        where = f"base {backbone.fingerprint}, commit {commit}, run {key}"
        line = f"- {datetime.date.today()}: `scripts/measure_concepts.py --seeds test`, {said}, {where}."
        log_test_run(ROOT / "docs" / "lab-notebook.md", line, key)
    complete = work(bench, plan, choice.methods, time.monotonic() + 60 * choice.time_limit)
    print(report(bench, choice, plan, {**about, "complete": complete}))
    print("All is done." if complete else "The time is over; the same command goes on from here.")


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", choices=tuple(STREAMS), default="development")
    parser.add_argument("--identities", type=int, default=20, help="concepts, over all classes")
    parser.add_argument("--pairs", type=int, default=20, help="pairs of different classes")
    parser.add_argument("--images", type=int, default=5, help="pictures of each concept and pair, by each method")
    parser.add_argument("--time-limit", type=float, default=float("inf"), help="minutes; nothing is begun after them")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--base", default="mini")
    parser.add_argument("--train", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the training")
    parser.add_argument("--compose", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the composition")
    parser.add_argument("--folder", type=Path, default=WORK, help="where work is kept")
    parser.add_argument("--out", type=Path, help="file for the numbers; in the folder without it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
