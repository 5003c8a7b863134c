"""A scene or a series with a single concept: of its two prompts one is enough, for each tells the other."""

import os
import re
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
    """Take a concept's name out of its sub-prompt; the class word stands for it where it does not follow anyway."""
    call, word = _find_names(item)
    prompt = item.sub_prompt
    for _ in range(count_word(prompt, call) if call else 0):
        begin, end = find_characters(prompt, call)
        before, behind = prompt[:begin], prompt[end:]
        follows = not word or re.match(rf"\s+{re.escape(word)}\b", behind, re.IGNORECASE)
        behind = behind.lstrip() if follows else f"{word}{behind}"
        prompt = fit_article(before, behind) + behind
    return prompt


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
    word = item.class_word or told.get("d2plan.class_word", "")
    call = told.get("d2plan.identifier") or item.trigger or told.get("modelspec.trigger_phrase", "").strip()
    # Other programs' triggers often end in the class word, which stays.
    return call.removesuffix(f" {word}"), word
