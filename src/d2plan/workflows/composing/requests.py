"""What is asked for, opened and checked before anything is computed: scenes, and the adapters that they name."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from diffusers import ControlNetModel

from d2plan.adapter.file import Adapter, load_adapter
from d2plan.backbone.load import Backbone
from d2plan.backbone.spatial import load_control
from d2plan.backbone.text import count_word
from d2plan.documents import Instance, Scene, Series, contains_word, load_request, parse_document
from d2plan.errors import InputError
from d2plan.isp.prepare import Drawing, Extras, PreparedScene, prepare_scene
from d2plan.isp.segment import Detector
from d2plan.isp.words import check_words
from d2plan.media.images import read_image
from d2plan.workflows.composing.single import complete_prompts
from d2plan.workflows.runs.detectors import open_detector

Asked = TypeVar("Asked", Scene, Series)

_MOST_TRIGGER = 100


@dataclass(frozen=True, eq=False)
class Request:
    """A scene with the adapters that it names.

    Attributes:
        scene: as asked for, with the triggers that its files tell filled in.
        adapters: one an instance; a trigger stands as the identifier of one that states none.
        styles: one a style.
        named: whether each adapter states its identifier itself, so that no other word may stand for it.
        kept: what the scene is a variant of, where it is.
    """

    scene: Scene
    adapters: tuple[Adapter, ...]
    styles: tuple[Adapter, ...]
    named: tuple[bool, ...]
    kept: "Request | None" = None


class AdapterShelf:
    """Adapter files that were read, each once."""

    def __init__(self) -> None:
        """Begin without any."""
        self._read: dict[str, Adapter] = {}

    def take(self, path: str) -> Adapter:
        """Give an adapter, read when it is first asked for.

        Args:
            path: of its file; ``~`` is the home folder.

        Returns:
            The adapter.
        """
        if path not in self._read:
            self._read[path] = load_adapter(os.path.expanduser(path))
        return self._read[path]


class ExtrasShelf:
    """ControlNets, detectors and kept pictures' scenes for one base, each opened or encoded once."""

    def __init__(self, backbone: Backbone) -> None:
        """Begin without any.

        Args:
            backbone: the base that they are for.
        """
        self._backbone = backbone
        self._models: dict[str, ControlNetModel] = {}
        self._detectors: dict[tuple[str | None, str], Detector] = {}
        self._kept: dict[Scene, PreparedScene] = {}

    def open(self, request: Request) -> Extras:
        """Open what a request names besides its concepts.

        Args:
            request: the request.

        Returns:
            Styles, drawings and the detector.

        Raises:
            InputError: a ControlNet or a detector cannot be used.
            FileError: a file cannot be read.
        """
        scene = request.scene
        drawings = [Drawing(self._take_model(item.model), read_image(item.image)) for item in scene.controls]
        detector = self._take_detector(scene) if scene.masks == "detect" and scene.instances else None
        return Extras(request.styles, drawings, detector)

    def prepare_kept(self, request: Request) -> PreparedScene | None:
        """Encode what a request is a variant of; all variants of one series share it.

        Args:
            request: the request.

        Returns:
            The kept picture's scene; None for one that is no variant.
        """
        wanted = request.kept
        if wanted is None:
            return None
        # Adapters are read once a run, so that scenes that are alike have the same ones.
        if wanted.scene not in self._kept:
            extras = self.open(wanted)
            self._kept[wanted.scene] = prepare_scene(self._backbone, wanted.scene, wanted.adapters, extras=extras)
        return self._kept[wanted.scene]

    def _take_model(self, name: str) -> ControlNetModel:
        if name not in self._models:
            self._models[name] = load_control(os.path.expanduser(name), self._backbone)
        return self._models[name]

    def _take_detector(self, scene: Scene) -> Detector:
        key = (scene.detector, scene.base)
        if key not in self._detectors:
            self._detectors[key] = open_detector(scene.detector, scene.base, str(self._backbone.device))
        return self._detectors[key]


def read_request(
    kind: type[Asked],
    source: Asked | str | Path,
    base: str | None = None,
    seed: int | None = None,
    other_base: bool = False,
) -> Asked:
    """Read a scene or a series, and put what the caller chose in the place of what it says.

    Args:
        kind: ``Scene`` or ``Series``.
        source: one of these, or the path of its file.
        base: replaces its own.
        seed: replaces its own.
        other_base: take adapters that were learnt on other weights, also where it says nothing of it.

    Returns:
        The scene or the series, with the prompt that a single concept may leave out.

    Raises:
        InputError: it is something else, or the seed cannot be used, or a prompt is missing.
        FileError: the file cannot be read.
    """
    written = complete_prompts(source if isinstance(source, kind) else load_request(kind, source))  # type: ignore[arg-type]
    name = f"the {kind.__name__.lower()}" if isinstance(source, kind) else str(source)
    wanted = {"base": base, "seed": seed, "other_base": other_base or None}
    changes = {field: value for field, value in wanted.items() if value is not None}
    return parse_document(kind, {**written.model_dump(), **changes}, name) if changes else written


def open_request(scene: Scene, shelf: AdapterShelf) -> Request:
    """Read the adapters that a scene names, and check its words against them.

    Args:
        scene: what is asked for.
        shelf: keeps what was read.

    Returns:
        The scene with its adapters.

    Raises:
        InputError: an adapter cannot be used, or a prompt does not call its concept; the sentence names the instance.
        FileError: an adapter cannot be read.
    """
    files = [shelf.take(instance.concept) for instance in scene.instances]
    instances = [_fill_trigger(item, adapter, index) for index, (item, adapter) in enumerate(_pair(scene, files))]
    filled = scene.model_copy(update={"instances": tuple(instances)})
    adapters = [
        replace(adapter, identifier=item.trigger) if item.trigger and not adapter.identifier else adapter
        for item, adapter in zip(instances, files, strict=True)
    ]
    named = tuple(bool(adapter.identifier) for adapter in files)
    kept = _open_kept(scene, shelf) if scene.variant_of else None
    if kept is not None:
        filled = filled.model_copy(update={"variant_of": kept.scene.instances})
    request = Request(filled, tuple(adapters), tuple(shelf.take(item.adapter) for item in scene.style), named, kept)
    check_concepts(request)
    return request


def _open_kept(scene: Scene, shelf: AdapterShelf) -> Request:
    try:
        return open_request(scene.model_copy(update={"instances": scene.variant_of, "variant_of": ()}), shelf)
    except InputError as error:
        raise type(error)(f"in what it is a variant of, {error}") from error


def _pair(scene: Scene, files: Sequence[Adapter]) -> list[tuple[Instance, Adapter]]:
    return list(zip(scene.instances, files, strict=True))


def _fill_trigger(instance: Instance, adapter: Adapter, index: int) -> Instance:
    """Take the trigger that a third-party file tells, where the scene names none and the sub-prompt holds it."""
    if adapter.identifier:
        if instance.trigger not in (None, adapter.identifier):
            raise InputError(
                f'instances[{index}].trigger is "{instance.trigger}", but {instance.concept} states its identifier '
                f"{adapter.identifier}; take the trigger away."
            )
        return instance
    told = adapter.trigger_phrase
    fits = instance.trigger is None and told and len(told) <= _MOST_TRIGGER and count_word(instance.sub_prompt, told)
    return instance.model_copy(update={"trigger": told}) if fits else instance


def check_concepts(request: Request) -> None:
    """Make sure that prompts call each concept by its own words, and that no two share an identifier.

    A trigger is chosen by whoever made a third-party file, and each sub-prompt is read with its own adapter alone,
    so two of these may share one.

    Args:
        request: what to compose.

    Raises:
        InputError: the sentence names the instance and what to write.
    """
    scene = request.scene
    owners: dict[str, tuple[str, str]] = {}
    for index, (instance, adapter) in enumerate(_pair(scene, request.adapters)):
        where, word = f"instances[{index}]", instance.class_word or adapter.class_word
        if word and not contains_word(scene.global_prompt, word):
            raise InputError(
                f'global_prompt "{scene.global_prompt}" does not hold "{word}", the class word of {where} '
                f"({instance.concept}); name the instance there by it."
            )
        if not adapter.identifier:
            continue
        if not count_word(instance.sub_prompt, adapter.identifier):
            raise InputError(
                f'{where}.sub_prompt "{instance.sub_prompt}" does not hold {adapter.identifier}, the identifier of '
                f'{instance.concept}; write it there, as in "a photo of a {adapter.identifier} {word}".'
            )
        if not request.named[index]:
            continue
        path, content = owners.setdefault(adapter.identifier, (instance.concept, adapter.sha256))
        if content != adapter.sha256:
            raise InputError(
                f"{path} and {instance.concept} have the same identifier {adapter.identifier}; "
                "train one of them again with another."
            )


def check_identifiers(request: Request, backbone: Backbone) -> None:
    """Make sure, before anything is opened or encoded, that identifiers stand only where they mean something.

    Args:
        request: what to compose, and what it is a variant of.
        backbone: the base; one with a list of words reserves its identifiers.

    Raises:
        InputError: an identifier that is not reserved, in the global prompt, or of another concept.
    """
    if request.kept is not None:
        check_identifiers(request.kept, backbone)
    check_words(request.scene, request.adapters, request.named, backbone)
