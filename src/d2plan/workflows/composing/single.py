"""A scene or a series with a single concept: of its two prompts one is enough, for each tells the other."""

import os
from typing import TypeVar

from d2plan.adapter.file import read_metadata
from d2plan.backbone.text import count_word, find_characters
from d2plan.documents import Instance, Scene, Series
from d2plan.errors import InputError
from d2plan.isp.weave import fit_article

Asked = TypeVar("Asked", Scene, Series)


def complete_prompts(written: Asked) -> Asked:
    """Write the prompt that a scene or a series with a single concept leaves out.

    Args:
        written: as asked for.

    Returns:
        The same with both prompts.

    Raises:
        InputError: the prompt is missing, and neither the scene nor the adapter says how to call the concept.
        FileError: the adapter cannot be read.
    """
    kept: tuple[Instance, ...] = written.variant_of if isinstance(written, Scene) else ()
    # A variant shares the global prompt of the picture that it is a variant of.
    both = (*kept, *written.instances)
    if len(written.instances) != 1 or written.global_prompt and all(item.sub_prompt for item in both):
        return written
    prompt = written.global_prompt or _leave_out_name(next(item for item in both if item.sub_prompt))
    changes: dict[str, object] = {
        "global_prompt": prompt,
        "instances": tuple(_give_sub_prompt(item, prompt) for item in written.instances),
    }
    if kept:
        changes["variant_of"] = tuple(_give_sub_prompt(item, prompt) for item in kept)
    return written.model_copy(update=changes)


def _leave_out_name(item: Instance) -> str:
    """Take a concept's name out of its sub-prompt; the class word stands for it where it is not there anyway."""
    call, word = _find_names(item)
    if not call or not count_word(item.sub_prompt, call):
        return item.sub_prompt
    begin, end = find_characters(item.sub_prompt, call)
    before, behind = item.sub_prompt[:begin], item.sub_prompt[end:].strip()
    if word and not count_word(f"{before} {behind}", word):
        behind = f"{word} {behind}".strip()
    return fit_article(before, behind) + behind


def _give_sub_prompt(item: Instance, prompt: str) -> Instance:
    """Put a concept's name before its class word, where the instance has no prompt of its own."""
    if item.sub_prompt:
        return item
    call, word = _find_names(item)
    if not (call and word):
        raise InputError(
            f"instances[0].sub_prompt is missing, and {item.concept} tells no words to make it of; write it."
        )
    if not count_word(prompt, word):
        # Of a class word that is not there the check of all concepts tells.
        return item
    begin, _ = find_characters(prompt, word)
    return item.model_copy(update={"sub_prompt": f"{fit_article(prompt[:begin], call)}{call} {prompt[begin:]}"})


def _find_names(item: Instance) -> tuple[str, str]:
    told = read_metadata(os.path.expanduser(item.concept))
    return told.get("d2plan.identifier") or item.trigger or "", item.class_word or told.get("d2plan.class_word", "")
