"""What may be asked of a training, and of which kind it must be."""

from pathlib import Path
from typing import get_type_hints

import pytest

from d2plan.errors import InputError
from d2plan.workflows.training.options import TrainOptions, check_options

# Kind -> what else a YAML file may hold there, and what the sentence asks for.
WRONG: dict[object, tuple[tuple[object, ...], str]] = {
    int: ((4.5, 2.0, "4", True, None), "a whole number"),
    float: (("high", True, None, [0.5]), "a number"),
    bool: (("off", "no", 3, 0, 1.0, None), "true or false"),
    str: ((7, 4.5, True, None), "text in quotes"),
    str | Path: ((5, True, None), "text in quotes"),
}
RIGHT: dict[object, tuple[object, ...]] = {
    int: (4,), float: (0.5, 1), bool: (True, False), str: ("fp16",), str | Path: ("runs", Path("runs")),
}  # fmt: skip
KINDS = [(name, kind) for name, kind in get_type_hints(TrainOptions).items() if kind in WRONG]


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_every_option_is_of_its_kind(name: str, kind: object) -> None:
    wrong, needed = WRONG[kind]
    for value in wrong:
        with pytest.raises(InputError) as caught:
            check_options({name: value}, 0)  # type: ignore[misc]
        assert str(caught.value) == f"{name} is {value!r}; write {needed}."
    for value in RIGHT[kind]:
        given = check_options({name: value}, 0)[name]  # type: ignore[misc]
        assert given == (str(value) if isinstance(value, Path) else value)
        assert isinstance(given, float) == (kind is float)


def test_only_choices_of_words_and_functions_have_no_plain_kind() -> None:
    others = get_type_hints(TrainOptions).keys() - dict(KINDS).keys()
    assert others == {"rate_schedule", "token_reduction", "attention_overlap", "on_step", "on_note"}
