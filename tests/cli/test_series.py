"""``d2plan series``, ``d2plan reproduce`` and ``d2plan compose --candidates``: what they say and how they end."""

import shutil

import pytest

from d2plan.cli.main import main
from tests.workflows.concept_files import SCENE, SERIES, concepts, write_request

__all__ = ["concepts"]


def _leave(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


def test_series_says_what_was_made_and_what_was_kept(concepts, tiny_folder, tmp_path, capsys) -> None:
    series = write_request(concepts, tiny_folder, SERIES, variants=SERIES["variants"][:2], steps=2)
    out = tmp_path / "out"
    assert _leave("series", series, "-o", out, "--only", "sit", "--low-memory") == 0
    assert capsys.readouterr().out.splitlines() == [
        "Made: sit",
        "Not made yet: run",
        f"Sheet: {out / 'sheet.png'}",
    ]
    assert _leave("series", series, "-o", out) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["Made: run", "Kept: sit"]
    assert _leave("series", series, "-o", out, "--seed", 9) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") <= 3 and "seed was 7 and is 9" in shown.err and "--overwrite" in shown.err


def test_reproduce_says_whether_it_is_the_same(concepts, tiny_folder, tmp_path, capsys) -> None:
    run = tmp_path / "run"
    assert _leave("compose", write_request(concepts, tiny_folder, SCENE, steps=2), "-o", run) == 0
    capsys.readouterr()
    assert _leave("reproduce", run / "image.png", "--check") == 0
    assert "Everything is there" in capsys.readouterr().out
    assert _leave("reproduce", run / "image.png") == 0
    assert capsys.readouterr().out == f"The same, byte for byte: {tmp_path / 'run-again' / 'image.png'}\n"
    shutil.copy(run / "image.png", tmp_path / "sent.png")
    assert _leave("reproduce", tmp_path / "sent.png", "--check") == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "rex.safetensors, <v2> dog" in shown and "--search" in shown
    options = ("--base", tiny_folder, "--search", concepts, "--seed", 8, "-o", tmp_path / "other")
    assert _leave("reproduce", tmp_path / "sent.png", *options) == 0
    assert capsys.readouterr().out == f"The scene with the seed 8: {tmp_path / 'other' / 'image.png'}\n"


def test_candidates_are_told_with_their_numbers(concepts, tiny_folder, tmp_path, capsys) -> None:
    scene = write_request(concepts, tiny_folder, SCENE, steps=1)
    shutil.copytree(concepts, tmp_path / "mine", ignore=shutil.ignore_patterns("*.yaml"))
    for name in ("john", "rex"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(_png())
    options = ("--candidates", 2, "--encoder", "tests.workflows.colours:open_colours")
    references = ("-r", f"john={tmp_path / 'john'}", "-r", f"rex={tmp_path / 'rex'}")
    assert _leave("compose", scene, "-o", tmp_path / "run", *options, *references) == 0
    shown = capsys.readouterr().out.splitlines()
    assert sorted(line[0] for line in shown[:2]) == [" ", "*"] and "seed 7: a man (man) " in shown[0]
    assert shown[2].startswith("Chosen by colours, which therefore may not score it")
    assert _leave("compose", scene, "-o", tmp_path / "b", "--encoder", "judge") == 2
    assert "belong to --candidates" in capsys.readouterr().err
    assert _leave("compose", scene, "-o", tmp_path / "b", "--low-memory", "--merged") == 2
    assert "exclude each other" in capsys.readouterr().err
    assert _leave("compose", scene, "-o", tmp_path / "b", *options) == 2
    assert "--references john=FOLDER" in capsys.readouterr().err


def _png() -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 30, 30)).save(buffer, "PNG")
    return buffer.getvalue()
