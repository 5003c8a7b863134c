"""The words that call a concept: which ones a sub-prompt uses, and where they may not stand."""

from collections.abc import Sequence

from d2plan.adapter.adapter import Adapter
from d2plan.backbone.load import Backbone
from d2plan.backbone.text import count_word
from d2plan.documents import Instance, Scene
from d2plan.errors import InputError


def find_call(instance: Instance, adapter: Adapter) -> str:
    """Say by which words a sub-prompt calls its concept.

    Args:
        instance: of a scene.
        adapter: its concept.

    Returns:
        The identifier, or the trigger of a third-party file; empty means by its class word.
    """
    known = adapter.identifier or instance.trigger
    if known:
        return known
    told = adapter.header.get("modelspec.trigger_phrase", "").strip()
    return told if told and count_word(instance.sub_prompt, told) else ""


def find_named(scene: Scene, adapters: Sequence[Adapter]) -> tuple[bool, ...]:
    """Say of each adapter whether it states its identifier itself.

    Args:
        scene: what is asked for.
        adapters: one an instance; a trigger may stand as the identifier of one that states none.

    Returns:
        One answer an instance.
    """
    pairs = zip(scene.instances, adapters, strict=True)
    return tuple(bool(adapter.identifier) and adapter.identifier != item.trigger for item, adapter in pairs)


def check_words(scene: Scene, adapters: Sequence[Adapter], named: Sequence[bool], backbone: Backbone) -> None:
    """Make sure that identifiers stand only where they mean something; triggers are words like others.

    Args:
        scene: what to compose.
        adapters: one an instance.
        named: whether each states its identifier itself.
        backbone: the base; one with a list of words reserves its identifiers.

    Raises:
        InputError: an identifier that is not reserved, the class word, in the global prompt, or of another concept.
    """
    reserved = backbone.defaults.identifiers
    own = [adapter.identifier if is_named else "" for adapter, is_named in zip(adapters, named, strict=True)]
    known = {*reserved, *filter(None, own)}
    for instance, identifier in zip(scene.instances, own, strict=True):
        if identifier and identifier.casefold() == (instance.class_word or "").casefold():
            raise InputError(
                f"{instance.concept} has the identifier {identifier}, which is its class word too, so nothing tells "
                "the concept from its class; train it with another word."
            )
    triggers = {adapter.identifier for adapter, is_named in zip(adapters, named, strict=True) if not is_named}
    for field, prompt, remedy in (
        ("global_prompt", scene.global_prompt, "name the instance there by its class word alone"),
        ("negative_prompt", scene.negative_prompt or "", "say there by plain words what to steer away from"),
    ):
        for identifier in sorted(known - triggers):
            if own and count_word(prompt, identifier):
                raise InputError(f"{field} holds the identifier {identifier}, which only an adapter knows; {remedy}.")
    for index, instance in enumerate(scene.instances):
        if backbone.words and own[index] and own[index] not in reserved:
            raise InputError(
                f"{instance.concept} has the identifier {own[index]}, which this base does not reserve; "
                f"train the concept with one of {reserved[0]} .. {reserved[-1]}."
            )
        word = adapters[index].identifier
        for other in sorted(known):
            if not (word and count_word(word, other)) and count_word(instance.sub_prompt, other):
                raise InputError(
                    f"instances[{index}].sub_prompt holds {other}, but the identifier of {instance.concept} is "
                    f"{own[index] or 'not stated'}; a sub_prompt names its own concept alone."
                )
