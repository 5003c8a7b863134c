"""What a benchmark has to do: methods with their settings, the casts of concepts, and the keys of all results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from d2plan.backbone.load import Backbone
from d2plan.bench.protocol import BenchConcept, Drawing, Method, Setting, Shot
from d2plan.bench.records import BaseRecord, DrawingRecord, Kind, ShotRecord, SuiteRecord
from d2plan.bench.store import Store, make_key
from d2plan.bench.surroundings import digest_method, digest_module
from d2plan.errors import InputError

Chosen = Literal["first", "tuned here", "tuned before"]
# Pictures of one call of a method; what a stop in the middle of the call costs.
MOST_SHOTS = 8


@dataclass(frozen=True, eq=False)
class Entry:
    """A method as it competes.

    Attributes:
        name: its name here; of an ablation, the variant's.
        method: the method.
        setting: what it learns with.
        chosen: how the setting was found.
        code: digest of the method's code.
    """

    name: str
    method: Method
    setting: Setting
    chosen: Chosen = "first"
    code: str = ""

    @property
    def family(self) -> str:
        """Where its learnt states lie; methods that learn alike say the same in ``learns_as``."""
        return str(getattr(self.method, "learns_as", self.name))

    @property
    def learning(self) -> tuple[str, dict[str, float]]:
        """What decides a learnt state: the code (``learns_by``), and what of the setting it reads (``learns_from``)."""
        if not hasattr(self.method, "learns_as"):
            return self.code, dict(self.setting)
        usual: Mapping[str, float | None] = getattr(self.method, "learns_from", dict.fromkeys(self.setting))
        # A number that is left out and the one that then counts are the same state.
        read = {name: self.setting[name] for name, own in usual.items() if self.setting.get(name, own) != own}
        return digest_module(getattr(self.method, "learns_by", type(self.method).__module__)), read


def make_entry(name: str, method: Method, setting: Setting | None = None, chosen: Chosen = "first") -> Entry:
    """Enter a method.

    Args:
        name: what tables call it.
        method: the method.
        setting: None takes its first.
        chosen: how the setting was found.

    Returns:
        The entry.
    """
    return Entry(name, method, dict(method.settings[0] if setting is None else setting), chosen, digest_method(method))


class Cast(NamedTuple):
    """Concepts that stand together in pictures.

    Attributes:
        names: of the concepts, from left to right.
        chunks: pictures that are drawn in one call; a series is never split.
    """

    names: tuple[str, ...]
    chunks: tuple[tuple[ShotRecord, ...], ...]

    @property
    def label(self) -> str:
        """Its name in paths."""
        return "+".join(self.names)


@dataclass(frozen=True, eq=False)
class Job:
    """All that a benchmark needs.

    Attributes:
        kind: methods side by side, or the ablation.
        backbone: the base.
        base: its name as given, and its fingerprint.
        suite: what is asked.
        concepts: to learn, by name.
        drawing: how pictures are drawn.
        seed: of all that is random in learning.
        store: where results go.
        reopen: gives the base anew when a method broke it.
        casts: of the suite.
        asked: whether somebody asked to stop.
        processes: that work beside each other, so that costs say so.
    """

    kind: Kind
    backbone: Backbone
    base: BaseRecord
    suite: SuiteRecord
    concepts: dict[str, BenchConcept]
    drawing: Drawing
    seed: int
    store: Store
    reopen: Callable[[], Backbone]
    casts: tuple[Cast, ...] = field(default=())
    asked: Callable[[], bool] = lambda: False
    processes: int = 1

    @property
    def drawn(self) -> DrawingRecord:
        """How pictures are drawn, as records say it."""
        drawing = self.drawing
        return DrawingRecord(
            steps=drawing.steps,
            guidance_scale=drawing.guidance_scale,
            height=drawing.height,
            width=drawing.width,
            precision=self.backbone.dtype_name,
        )

    def state_key(self, entry: Entry, concept: str) -> str:
        """Give the key of what a method learnt of a concept."""
        code, setting = entry.learning
        record = next(one for one in self.suite.concepts if one.name == concept)
        words = (record.class_word, record.identifier, record.digest)
        base = (self.base.fingerprint, self.backbone.dtype_name)
        return make_key("learn", entry.family, code, setting, words, base, self.seed)

    def state_path(self, entry: Entry, concept: str) -> Path:
        """Give the file of what a method learnt of a concept."""
        return self.store.state(entry.family, concept, self.state_key(entry, concept))

    def cast_key(self, entry: Entry, cast: Cast) -> str:
        """Give the key of a group's joined state."""
        states = [self.state_key(entry, name) for name in cast.names]
        return make_key("join", entry.name, entry.code, dict(entry.setting), states)

    def draw_key(self, entry: Entry, cast: Cast, chunk: Sequence[ShotRecord]) -> str:
        """Give the key of the pictures of one call."""
        shots = [shot.model_dump(mode="json") for shot in chunk]
        return make_key("draw", self.cast_key(entry, cast), self.drawn.model_dump(mode="json"), shots)


def list_casts(shots: Sequence[ShotRecord]) -> tuple[Cast, ...]:
    """Gather pictures of the same concepts and share them out to calls.

    Args:
        shots: of the suite.

    Returns:
        Casts in the order of the suite; the same suite gives the same calls, so that a run that was stopped and went
        on draws what one without a stop does.
    """
    grouped: dict[tuple[str, ...], dict[str, list[ShotRecord]]] = {}
    for shot in shots:
        grouped.setdefault(shot.concepts, {}).setdefault(shot.series or shot.name, []).append(shot)
    return tuple(Cast(names, _share_out(list(parts.values()))) for names, parts in grouped.items())


def _share_out(parts: Sequence[Sequence[ShotRecord]]) -> tuple[tuple[ShotRecord, ...], ...]:
    chunks: list[list[ShotRecord]] = []
    for part in parts:
        if not chunks or len(chunks[-1]) + len(part) > MOST_SHOTS:
            chunks.append([])
        chunks[-1] += part
    return tuple(tuple(chunk) for chunk in chunks)


def make_shot(record: ShotRecord) -> Shot:
    """Give a picture as methods are asked for it."""
    return Shot(
        global_prompt=record.global_prompt,
        sub_prompts=record.sub_prompts,
        joint_prompt=record.joint_prompt,
        concepts=record.concepts,
        boxes=record.boxes,
        seed=record.seed,
    )


def check_setting(method: Method, setting: Setting, where: str) -> None:
    """Refuse a setting that a method does not have.

    Args:
        method: the method.
        setting: one of its own.
        where: what names the setting.

    Raises:
        InputError: it is none of them.
    """
    if dict(setting) not in [dict(one) for one in method.settings]:
        known = "; ".join(str(dict(one)) for one in method.settings)
        raise InputError(f"{where}: {method.name} has no setting {dict(setting)}; choose one of {known}.")
