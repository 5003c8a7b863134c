import pytest

from d2plan.cli.main import main


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as leaving:
        main(["demo", *arguments])
    return leaving.value.code, capsys.readouterr()


def test_a_class_that_does_not_exist_is_told_before_anything_is_written(tiny_folder, tmp_path, capsys):
    out = tmp_path / "out"
    code, told = run(capsys, "--base", str(tiny_folder), "-c", "man", "-c", "dgo", "--out", str(out))
    assert code == 2 and "did you mean 'dog'" in told.err and told.out == ""
    assert not out.exists()


def test_a_folder_that_is_not_empty_is_left_alone(tiny_folder, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("x")
    code, told = run(capsys, "--base", str(tiny_folder), "--out", str(tmp_path))
    assert code == 2 and "is not empty" in told.err and "--overwrite" in told.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_base_that_is_not_there_is_told(tmp_path, capsys):
    code, told = run(capsys, "--base", str(tmp_path / "nothing"), "--out", str(tmp_path / "out"))
    assert code == 2 and "nothing" in told.err and len(told.err.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [("--seed", "-1"), ("--steps", "0")])
def test_numbers_out_of_range_are_told(arguments, tmp_path, capsys):
    code, told = run(capsys, *arguments, "--out", str(tmp_path / "out"))
    assert code == 2 and arguments[0] in told.err
