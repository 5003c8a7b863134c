import os
from pathlib import Path

import pytest

from d2plan.dislora.data_words import ConceptWords, check_template, read_caption, read_table, read_words
from d2plan.errors import FileError, InputError


def _write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def test_concept_yaml_says_class_identifier_template_and_name(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "concept.yaml", 'class_word: teddy  bear\nidentifier: "<v1>"\ntemplate: "a {} here"\nname:\n'
    )
    assert read_words(path) == (ConceptWords("teddy bear", "<v1>", "a {} here"), [])
    assert read_words(tmp_path / "none.yaml") == (ConceptWords(), [])
    assert read_words(_write(tmp_path / "empty.yaml", "")) == (ConceptWords(), [])


def test_a_key_that_means_nothing_is_noted_with_the_nearest(tmp_path: Path) -> None:
    path = _write(tmp_path / "concept.yaml", "clas_word: dog\nrepeats: 10\n")
    assert read_words(path)[1] == [
        "concept.yaml: clas_word is not used; did you mean class_word?",
        "concept.yaml: repeats is not used",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("- dog", "needs lines"),
        ("class_word: [dog", "YAML"),
        ("class_word: 7", "must be text, not 7"),
        ("class_word: no", "put it between quotes"),
        ("class_word: ' '", "must be text"),
        ("name: !!python/object/apply:os.system ['true']", "YAML"),
        ("template: no place in here", "template"),
        ('class_word: "a\\0b"', "plain line"),
        ("name: " + "x" * 3000, "at most 2000"),
        ("class_word: dog\nclass_word: cat", "twice"),
    ],
)
def test_a_concept_yaml_that_cannot_be_used_is_named(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(InputError, match=f"concept.yaml.*{words}"):
        read_words(_write(tmp_path / "concept.yaml", content))


def test_a_caption_is_one_line_of_text(tmp_path: Path) -> None:
    assert read_caption(_write(tmp_path / "a.txt", "\ufeffa dog\r\n on  a sofa\n")) == "a dog on a sofa"
    assert read_caption(_write(tmp_path / "b.txt", " \n")) is None
    family = "a \N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN} f\u00eate"
    assert read_caption(_write(tmp_path / "c.txt", family)) == family


@pytest.mark.parametrize("content", ["x" * 3000, "a\0b", "a \x1b[31m dog"])
def test_a_caption_that_is_no_line_is_named(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match=r"a\.txt: must be one plain line"):
        read_caption(_write(tmp_path / "a.txt", content))


def test_a_caption_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("a dog".encode("utf-16"))
    with pytest.raises(FileError, match=r"a\.txt: is not UTF-8"):
        read_caption(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_bytes(b"x" * (4 * 2**20 + 1))
    with pytest.raises(FileError, match=r"b\.txt: is larger than 4 MiB"):
        read_caption(tmp_path / "b.txt")
    os.mkfifo(tmp_path / "c.txt")
    with pytest.raises(FileError, match=r"c\.txt: is not a regular file; give a UTF-8 text"):
        read_caption(tmp_path / "c.txt")


def test_a_table_gives_captions_under_the_names_that_tools_write(tmp_path: Path) -> None:
    rows = [
        '{"file_name": "a.png", "text": "one", "caption": "not this"}', "",
        '{"file_name": "./b.png", "caption": "two"}', '{"file_name": "c.png", "prompt": "three"}',
        '{"file_name": "u\\u0308.png", "text": "four"}', '{"file_name": "e.png", "text": " "}',
    ]  # fmt: skip
    table = read_table(_write(tmp_path / "metadata.jsonl", "\n".join(rows)))
    assert table == {"a.png": "one", "b.png": "two", "c.png": "three", "\u00fc.png": "four"}
    assert read_table(tmp_path / "none.jsonl") == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "line 1: is not JSON"),
        ("\n[1]", 'line 2: needs "file_name"'),
        ('{"file_name": "a.png"}', '"text"'),
        ('{"file_name": 3, "text": "x"}', '"file_name"'),
        ('{"file_name": "a.png", "text": "x"}\n{"file_name": "./a.png", "text": "y"}', "line 2: names a.png a second"),
        ("[" * 100_000, "line 1: is not JSON"),
    ],
)
def test_a_table_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(InputError, match=f"metadata.jsonl, {words}" if words.startswith("line") else words):
        read_table(_write(tmp_path / "metadata.jsonl", content))


def test_a_template_has_one_place_for_the_class_word() -> None:
    check_template("a photo of a {}")
    for template in ("{} and {}", "none", "{0}"):
        with pytest.raises(InputError, match="template"):
            check_template(template)
