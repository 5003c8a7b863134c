import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from d2plan.adapter.file import save_adapter
from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import sample_steps
from d2plan.errors import AdapterError, FileError, InputError
from d2plan.media.images import read_image
from d2plan.workflows.shelf.inspect import InspectOptions, inspect_attention
from d2plan.workflows.shelf.inspect_picture import colour_map
from tests.tiny import tiny_adapter

PROMPT = "a photo of a dog on the beach"


def _maps_by_hand(tiny: Backbone, prompt: str, position: int, steps: int) -> np.ndarray:
    """Average the softmax column of one token over steps, layers and heads, from the layers' own inputs."""
    seen: dict[tuple[int, int], list[torch.Tensor]] = {}

    def note(layer: torch.nn.Module, arguments: tuple, named: dict, output: object) -> None:
        states, context = arguments[0][1:], named["encoder_hidden_states"][1:]
        query, key = (
            part.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for part in (layer.to_q(states), layer.to_k(context))
        )
        scores = (query @ key.transpose(2, 3)) * query.shape[-1] ** -0.5
        side = int(states.shape[1] ** 0.5)
        seen.setdefault((side, side), []).append(scores.softmax(-1)[0, :, :, position].mean(0))

    layers = [module for name, module in tiny.unet.named_modules() if name.endswith("attn2")]
    handles = [layer.register_forward_hook(note, with_kwargs=True) for layer in layers]
    with torch.no_grad():
        for _ in sample_steps(tiny, prompt, 3, steps):
            pass
    for handle in handles:
        handle.remove()
    finest = max(seen)
    scaled = [
        torch.nn.functional.interpolate(
            torch.stack(maps).mean(0).view(1, 1, *size), finest, mode="bilinear", align_corners=False
        )[0, 0]
        for size, maps in seen.items()
    ]
    return torch.stack(scaled).mean(0).numpy()


def test_a_map_is_the_words_softmax_column_averaged_over_steps_layers_and_heads(tiny: Backbone, tmp_path: Path) -> None:
    (look,) = inspect_attention(PROMPT, tmp_path / "a.png", ["dog", "beach"], tiny, seed=3, steps=2)
    assert look.words == ("dog", "beach") and look.maps.shape == (2, 16, 16)
    np.testing.assert_allclose(look.maps[0], _maps_by_hand(tiny, PROMPT, 5, 2), atol=1e-5)
    *_, last = sample_steps(tiny, PROMPT, 3, 2)
    assert look.groups.shape == (16, 16) and len(set(look.names)) == len(look.names)
    assert {name.rstrip(" 12345") for name in look.names} <= {"photo", "dog", "beach"}
    assert 0 <= look.overlap("dog", "beach") <= 1 and look.overlap("dog", "dog") == 1
    picture = read_image(tmp_path / "a.png")
    assert picture.ndim == 3 and picture.std() > 10
    assert type(tiny.unet.mid_block.attentions[0].transformer_blocks[0].attn2.processor).__name__ == "AttnProcessor2_0"


def test_an_adapter_stands_below_the_base_that_draws_the_class_word(tiny: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "rex.safetensors"
    save_adapter(path, tiny_adapter(tiny))
    told: list[str] = []
    base, rex = inspect_attention(
        "a photo of a <v1> dog on the beach", tmp_path / "a.png", ["<v1>", "dog", "beach"], tiny, path,
        steps=1, on_progress=lambda what, done, total: told.append(what),
    )  # fmt: skip
    assert (base.label, base.prompt, base.words) == ("base", PROMPT, ("dog", "beach"))
    assert (rex.label, rex.words) == ("Rex", ("<v1>", "dog", "beach"))
    assert not np.array_equal(base.image, rex.image) and told == ["drawing with base", "drawing with Rex"]
    (plain,) = inspect_attention(PROMPT, tmp_path / "b.png", ["dog", "beach"], tiny, steps=1)
    assert np.array_equal(plain.maps, base.maps), "the base's row does not know of the adapter"


@pytest.fixture
def found(tiny: Backbone, tmp_path: Path) -> Path:
    """A Kohya file without a word of d2plan."""
    own = save_adapter(tmp_path / "own.safetensors", tiny_adapter(tiny)).path
    save_file(load_file(own), tmp_path / "found.safetensors", {"ss_network_module": "networks.lora"})
    return tmp_path / "found.safetensors"


def test_a_foreign_file_is_shown_with_the_words_that_are_given(tiny: Backbone, found: Path, tmp_path: Path) -> None:
    words: InspectOptions = {"class_word": "dog", "identifier": "red cat"}
    base, own = inspect_attention(
        "a photo of a red cat dog on the beach", tmp_path / "a.png", (), tiny, found, steps=1, **words
    )
    assert (base.prompt, base.words) == (PROMPT, ("photo", "dog", "beach"))
    assert (own.label, own.words) == ("found", ("photo", "red", "cat", "dog", "beach"))
    assert not np.array_equal(base.image, own.image)


def test_a_class_word_alone_calls_a_foreign_file(tiny: Backbone, found: Path, tmp_path: Path) -> None:
    base, own = inspect_attention(PROMPT, tmp_path / "a.png", ["dog"], tiny, found, steps=1, class_word="dog")
    assert base.prompt == own.prompt == PROMPT and base.words == own.words == ("dog",)
    assert not np.array_equal(base.image, own.image)


def test_given_words_stand_in_for_a_files_own(tiny: Backbone, tmp_path: Path) -> None:
    path = save_adapter(tmp_path / "rex.safetensors", tiny_adapter(tiny)).path
    prompt, words = "a photo of a <v2> cat", {"class_word": "cat", "identifier": "<v2>"}
    base, _ = inspect_attention(prompt, tmp_path / "a.png", ["<v2>"], tiny, path, steps=1, **words)
    assert (base.prompt, base.words) == ("a photo of a cat", ("cat",))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({}, r"found\.safetensors names no class word; give it with --class"),
        ({"class_word": "cat"}, 'does not name "cat", the class word of found; .* --identifier'),
        ({"class_word": "dog", "identifier": "<v1>"}, 'does not name "<v1>", the identifier of found'),
    ],
)
def test_a_foreign_file_without_its_words_is_refused(words, sentence, tiny, found, tmp_path) -> None:
    with pytest.raises(InputError, match=sentence):
        inspect_attention(PROMPT, tmp_path / "a.png", (), tiny, found, **words)
    assert not (tmp_path / "a.png").exists()


def test_a_concept_of_other_weights_is_shown_only_when_asked_for(tiny: Backbone, tmp_path: Path) -> None:
    rex = dataclasses.replace(tiny_adapter(tiny), base_fingerprint="0" * 16)
    path = save_adapter(tmp_path / "rex.safetensors", rex).path
    asked = ("a photo of a <v1> dog", tmp_path / "a.png", ["dog"], tiny, path)
    with pytest.raises(AdapterError, match="--other-base"):
        inspect_attention(*asked, steps=1)
    assert len(inspect_attention(*asked, steps=1, other_base=True)) == 2


def test_without_words_those_that_stand_for_something_are_taken(tiny: Backbone, tmp_path: Path) -> None:
    (look,) = inspect_attention(PROMPT, tmp_path / "a.png", base=tiny, steps=1, clusters=1)
    assert look.words == ("photo", "dog", "beach") and (look.groups == 0).all()


def test_what_cannot_be_shown_is_refused_before_anything_is_drawn(tiny: Backbone, tmp_path: Path) -> None:
    save_adapter(tmp_path / "rex.safetensors", tiny_adapter(tiny))
    (tmp_path / "there.png").write_bytes(b"mine")
    out = tmp_path / "new" / "a.png"
    for arguments, changes, words in (
        ((PROMPT, out, ["cat"]), {}, "cat"),
        ((PROMPT, out, ["dog"]), {"clusters": 0}, "clusters"),
        ((PROMPT, tmp_path / "a.jpg"), {}, "png"),
        (("a a a", out), {}, "no word"),
        ((PROMPT, out, ["dog"]), {"concept": tmp_path / "rex.safetensors"}, "does not name"),
        ((PROMPT, out, ["dog"]), {"class_word": "dog"}, "call a concept, but none is given"),
    ):
        with pytest.raises(InputError, match=words):
            inspect_attention(*arguments, base=tiny, **changes)
    with pytest.raises(FileError, match="there already"):
        inspect_attention(PROMPT, tmp_path / "there.png", base=tiny)
    assert not out.parent.exists()


def test_colours_grow_brighter_with_the_value() -> None:
    shown = colour_map(np.linspace(2, 5, 50, dtype=np.float32)[None]).astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(shown[0]) >= 0).all()
    assert (colour_map(np.full((2, 2), 7, dtype=np.float32)) == (0, 0, 4)).all()
