"""``d2plan compose`` and ``d2plan generate``: where the result is, and exit codes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import UNet2DConditionModel

from d2plan.adapter.file import save_adapter
from d2plan.backbone.load import load_backbone
from d2plan.cli.main import main
from tests.isp.concepts import random_adapter
from tests.tiny import write_tiny


def _leave(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


def _write_scene(folder: Path, base: Path, sub_prompt: str) -> Path:
    save_adapter(folder / "rex.safetensors", random_adapter(load_backbone(base), "dog", "<v2>"))
    scene = {
        "base": str(base),
        "global_prompt": "a dog on the beach",
        "instances": [{"concept": "rex.safetensors", "sub_prompt": sub_prompt}],
        "steps": 2,
        "height": 64,
        "width": 64,
    }
    path = folder / "scene.yaml"
    path.write_text(yaml.safe_dump(scene), encoding="utf-8")
    return path


def test_compose_says_where_the_picture_is(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    scene, out = _write_scene(tmp_path, tiny_folder, "a <v2> dog running"), tmp_path / "run"
    assert _leave("compose", scene, "-o", out, "--seed", 4) == 0
    shown = capsys.readouterr()
    assert f"Picture: {out / 'image.png'}" in shown.out and (out / "image.png").is_file()
    assert "composing: 2/2" in shown.err
    assert _leave("compose", scene, "--out", out) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert _leave("compose", scene, "--out", out, "--overwrite") == 0


def test_a_wrong_scene_is_code_2_and_one_sentence(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    scene = _write_scene(tmp_path, tiny_folder, "a dog running")
    assert _leave("compose", scene, "-o", tmp_path / "run") == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("d2plan: instances[0].sub_prompt") and shown.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_other_weights_are_taken_with_a_flag(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    scene, other = _write_scene(tmp_path, tiny_folder, "a <v2> dog running"), write_tiny(tmp_path / "other", seed=5)
    asked = ("compose", scene, "-o", tmp_path / "run", "--base", other)
    assert _leave(*asked) == 2
    assert "take it all the same with --other-base" in capsys.readouterr().err
    assert _leave(*asked, "--other-base") == 0
    assert "Note: instances[0]: rex.safetensors was learnt on the base" in capsys.readouterr().err


@pytest.mark.parametrize("low", [(), ("--low-memory",)])
@pytest.mark.parametrize("method", ["to", "forward"])
def test_a_full_device_is_code_2_and_one_sentence_and_the_next_run_works(
    method: str, low: tuple[str, ...], tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    scene, out = _write_scene(tmp_path, tiny_folder, "a <v2> dog running"), tmp_path / "run"
    before = set(tmp_path.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UNet2DConditionModel, method, _run_out_of_memory)
        assert _leave("compose", scene, "-o", out, *low) == 2
    shown = capsys.readouterr()
    (told,) = [line for line in shown.err.splitlines() if "memory" in line]
    assert told == shown.err.splitlines()[-1] and told.startswith("d2plan: ") and "Traceback" not in shown.err
    assert all(remedy in told for remedy in ("--low-memory", "smaller picture", "fewer candidates, rows"))
    assert shown.out == "" and set(tmp_path.iterdir()) == before
    assert _leave("compose", scene, "-o", out, *low) == 0


def _run_out_of_memory(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has 1 GiB free.")


@pytest.mark.parametrize("ask", [lambda: torch.empty(10**14), lambda: np.empty(10**15)], ids=["torch", "numpy"])
def test_a_full_computer_is_code_2_and_one_sentence(
    ask: Callable[[], object], tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    scene = _write_scene(tmp_path, tiny_folder, "a <v2> dog running")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UNet2DConditionModel, "forward", lambda *_, **__: ask())
        assert _leave("compose", scene, "-o", tmp_path / "run") == 2
    told = capsys.readouterr().err
    assert "d2plan: There is too little memory" in told and "Traceback" not in told
    assert not (tmp_path / "run").exists()


def test_generate_says_where_the_pictures_are(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    options = ("--base", tiny_folder, "--seed", 2, "--steps", 1, "--guidance-scale", 3, "--count", 2)
    assert _leave("generate", "a dog", "-o", tmp_path / "dog.png", *options) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown == [f"Picture: {tmp_path / 'dog-2.png'}", f"Picture: {tmp_path / 'dog-3.png'}"]


def test_a_picture_that_is_there_stays_until_overwrite_is_said(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "dog.png"
    out.write_bytes(b"mine")
    arguments = ("generate", "a zebra", "-o", out, "--base", tiny_folder, "--steps", 1)
    assert _leave(*arguments) == 2
    assert out.read_bytes() == b"mine" and "--overwrite" in capsys.readouterr().err
    assert _leave(*arguments, "--overwrite") == 0
    assert out.read_bytes() != b"mine"


def test_generate_tells_words_that_the_base_never_saw(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = ("--base", tiny_folder, "--steps", 1, "--count", 2)
    assert _leave("generate", "a dog on the beech", "-o", tmp_path / "a.png", *arguments) == 0
    assert capsys.readouterr().err.count('never seen "beech"; known words like it: beach') == 1


@pytest.mark.parametrize("out", ["/proc/a.png", "x" * 300 + ".png"])
def test_generate_finds_out_first_that_it_cannot_write(
    out: str, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert _leave("generate", "a dog", "-o", tmp_path / out, "--base", tiny_folder) == 2
    shown = capsys.readouterr()
    assert "cannot be written" in shown.err and shown.err.count("\n") == 1
