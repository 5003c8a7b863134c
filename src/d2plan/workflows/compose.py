"""Scenes in, run folders out."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from d2plan.adapter.file import Adapter, load_adapter
from d2plan.backbone.load import Backbone, load_backbone
from d2plan.backbone.text import count_word
from d2plan.documents import Scene, contains_word, load_scene, parse_document
from d2plan.errors import InputError
from d2plan.isp.loop import Composition, Run, compose_steps
from d2plan.isp.prepare import prepare_scene
from d2plan.workflows.run_folder import open_run, record_run, write_run

# What is happening, how much of it is done, and how much there is; 0 where nobody knows.
Report = Callable[[str, int, int], None]


def compose(
    scene: Scene | str | Path,
    out: str | Path,
    base: str | None = None,
    seed: int | None = None,
    overwrite: bool = False,
    on_progress: Report | None = None,
) -> Path:
    """Make the picture that a scene asks for.

    Args:
        scene: a scene, or the path of a scene file.
        out: the run's folder, new or empty; it gets ``image.png``, ``masks.png``, ``masks/`` and ``run.json``.
        base: replaces the scene's.
        seed: replaces the scene's.
        overwrite: allow a folder that is not empty; files of the same names are replaced.
        on_progress: called with (what is happening, steps done, steps in all).

    Returns:
        The run's folder.

    Raises:
        InputError: the scene, an adapter, or the folder cannot be used; nothing was written.
        FileError: a file cannot be read or written.
    """
    (folder,) = compose_all([scene], [out], base, seed, overwrite, on_progress)
    return folder


def compose_all(
    scenes: Sequence[Scene | str | Path],
    outs: Sequence[str | Path],
    base: str | None = None,
    seed: int | None = None,
    overwrite: bool = False,
    on_progress: Report | None = None,
    backbone: Backbone | None = None,
) -> list[Path]:
    """Make the pictures of many scenes of one base, those that are alike together in one U-Net batch.

    Everything is checked before anything is computed.

    Args:
        scenes: scenes, or paths of scene files.
        outs: one run folder a scene.
        base: replaces that of every scene.
        seed: replaces that of every scene.
        overwrite: allow folders that are not empty.
        on_progress: called with (what is happening, steps done, steps in all).
        backbone: the base when it is open already; ``base`` does not matter then.

    Returns:
        The run folders.

    Raises:
        InputError: a scene, an adapter or a folder cannot be used, or the scenes are of several bases.
        FileError: a file cannot be read or written.
    """
    if len(scenes) != len(outs) or len({Path(out).resolve() for out in outs}) != len(outs):
        raise InputError(f"{len(scenes)} scenes need as many different output folders, not {len(set(outs))}.")
    report = on_progress or _say_nothing
    requests = [read_request(scene, base, seed) for scene in scenes]
    with ExitStack() as runs:
        folders = [runs.enter_context(open_run(out, overwrite)) for out in outs]
        opened: dict[str, Adapter] = {}
        concepts = [_open_concepts(request, opened) for request in requests]
        for request, adapters in zip(requests, concepts, strict=True):
            check_concepts(request, adapters)
        backbone = backbone or _open_base(requests, report)
        for request, adapters in zip(requests, concepts, strict=True):
            check_identifiers(request, adapters, backbone)
        pairs = zip(requests, concepts, strict=True)
        prepared = [prepare_scene(backbone, request, adapters) for request, adapters in pairs]
        for folder, composition in zip(folders, drain(compose_steps(backbone, prepared), report), strict=True):
            write_run(folder, composition, record_run(composition, backbone))
    return [Path(os.path.expanduser(out)) for out in outs]


def read_request(scene: Scene | str | Path, base: str | None = None, seed: int | None = None) -> Scene:
    """Read a scene and put what the caller chose in the place of what it says.

    Args:
        scene: a scene, or the path of a scene file.
        base: replaces the scene's.
        seed: replaces the scene's.

    Returns:
        The scene.

    Raises:
        InputError: it is no scene, or the seed cannot be used.
        FileError: the file cannot be read.
    """
    source = "the scene" if isinstance(scene, Scene) else str(scene)
    request = scene if isinstance(scene, Scene) else load_scene(scene)
    changes = {name: value for name, value in (("base", base), ("seed", seed)) if value is not None}
    return parse_document(Scene, {**request.model_dump(), **changes}, source) if changes else request


def check_concepts(scene: Scene, adapters: Sequence[Adapter]) -> None:
    """Make sure that prompts call each concept by its own words, and that no two share an identifier.

    Args:
        scene: what to compose.
        adapters: one an instance, in the scene's order.

    Raises:
        InputError: the sentence names the instance and what to write.
    """
    owners: dict[str, tuple[str, str]] = {}
    for index, (instance, adapter) in enumerate(zip(scene.instances, adapters, strict=True)):
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
        path, content = owners.setdefault(adapter.identifier, (instance.concept, adapter.sha256))
        if content != adapter.sha256:
            raise InputError(
                f"{path} and {instance.concept} have the same identifier {adapter.identifier}; "
                "train one of them again with another."
            )


def check_identifiers(scene: Scene, adapters: Sequence[Adapter], backbone: Backbone) -> None:
    """Make sure that identifiers stand only where they mean something.

    Args:
        scene: what to compose.
        adapters: one an instance, in the scene's order.
        backbone: the base; one with a list of words reserves its identifiers.

    Raises:
        InputError: an identifier that is not reserved, in the global prompt, or of another concept.
    """
    reserved = backbone.defaults.identifiers
    known = {*reserved, *(adapter.identifier for adapter in adapters if adapter.identifier)}
    for identifier in sorted(known):
        if adapters and count_word(scene.global_prompt, identifier):
            raise InputError(
                f"global_prompt holds the identifier {identifier}, which only an adapter knows; "
                "name the instance there by its class word alone."
            )
    for index, (instance, adapter) in enumerate(zip(scene.instances, adapters, strict=True)):
        if backbone.words and adapter.identifier and adapter.identifier not in reserved:
            raise InputError(
                f"{instance.concept} has the identifier {adapter.identifier}, which this base does not reserve; "
                f"train the concept with one of {reserved[0]} .. {reserved[-1]}."
            )
        for other in sorted(known - {adapter.identifier}):
            if count_word(instance.sub_prompt, other):
                raise InputError(
                    f"instances[{index}].sub_prompt holds {other}, but the identifier of {instance.concept} is "
                    f"{adapter.identifier or 'not stated'}; a sub_prompt names its own concept alone."
                )


def drain(run: Run, report: Report, what: str = "composing") -> list[Composition]:
    """Run a composition to its end.

    Args:
        run: from ``compose_steps``.
        report: called after each step.
        what: how the display calls it.

    Returns:
        The compositions.
    """
    while True:
        try:
            step = next(run)
        except StopIteration as end:
            return end.value
        report(what, step.step, step.total)


def _open_concepts(scene: Scene, opened: dict[str, Adapter]) -> list[Adapter]:
    for instance in scene.instances:
        if instance.concept not in opened:
            opened[instance.concept] = load_adapter(os.path.expanduser(instance.concept))
    return [opened[instance.concept] for instance in scene.instances]


def _open_base(scenes: Sequence[Scene], report: Report) -> Backbone:
    bases = sorted({scene.base for scene in scenes})
    if len(bases) != 1:
        raise InputError(f"The scenes are of {len(bases)} bases ({', '.join(bases)}); compose those of one at a time.")
    report("opening the base", 0, 1)
    backbone = load_backbone(bases[0])
    report("opening the base", 1, 1)
    return backbone


def _say_nothing(what: str, done: int, total: int) -> None:
    del what, done, total
