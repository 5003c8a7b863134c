import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from d2plan.adapter.file import Adapter, Delta, save_adapter
from d2plan.errors import FileError
from d2plan.media.images import read_image, write_png
from d2plan.workflows.shelf.concepts import list_concepts, write_sheet


def _adapter(path: Path, name: str) -> None:
    layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    deltas = {layer: Delta(torch.ones(2, 4), torch.ones(4, 2), 2.0)}
    settings = {"steps": "30", "base": "tiny"}
    save_adapter(path, Adapter(name, "dog", "<v1>", "0123456789abcdef", 2, 2.0, deltas, settings))


def test_every_adapter_is_listed_and_a_damaged_one_says_why(tmp_path: Path) -> None:
    _adapter(tmp_path / "b.safetensors", "Rex")
    (tmp_path / "a.safetensors").write_bytes(b"short")
    (tmp_path / "notes.txt").write_text("x")
    damaged, rex = list_concepts(tmp_path)
    assert damaged.name == "a" and "a.safetensors" in damaged.trouble
    assert (rex.name, rex.class_word, rex.identifier, rex.steps) == ("Rex", "dog", "<v1>", "30")
    assert rex.base == "tiny 0123456789abcdef" and rex.trouble == ""


def test_what_only_looks_like_an_adapter_is_listed_with_why_it_cannot_be_used(tmp_path: Path) -> None:
    stem = "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q"
    halves = {f"{stem}.lora_down.weight": torch.zeros(2, 4), f"{stem}.lora_up.weight": torch.zeros(4, 2)}
    convolution = {"lora_unet_conv_in.lora_down.weight": torch.zeros(2, 4, 3, 3)}
    files = {
        "a flux": ({"transformer.single_transformer_blocks.0.x.lora_A.weight": torch.zeros(2, 4)}, "LoRA for Flux"),
        "half": ({f"{stem}.lora_down.weight": torch.zeros(2, 4)}, "incomplete: 1 of 1 layers"),
        "locon": (halves | convolution, "a LoCon: 1 of 2 layers.*--to kohya --linear-only"),
        "ranks": (halves | {f"{stem}.lora_up.weight": torch.zeros(4, 3)}, r"the shapes \[2, 4\] and \[4, 3\]"),
        "plain": (halves, "^$"),
    }
    for name, (tensors, _) in files.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
    rows = {row.name: row for row in list_concepts(tmp_path)}
    assert rows.keys() == files.keys()
    for name, (_, trouble) in files.items():
        assert re.search(trouble, rows[name].trouble), rows[name].trouble


def test_the_sheet_shows_thumbnails_and_grey_where_there_is_none(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _adapter(tmp_path / f"{name}.safetensors", name)
    write_png(tmp_path / "a.png", np.full((64, 64, 3), 7, dtype=np.uint8))
    write_sheet(tmp_path / "sheet.png", list_concepts(tmp_path))
    sheet = read_image(tmp_path / "sheet.png")
    assert (sheet[8:168, 8:168] == 7).all() and (sheet[8:168, 176:336] == 235).all()


def test_a_folder_without_adapters_has_no_sheet_and_a_missing_one_no_list(tmp_path: Path) -> None:
    assert list_concepts(tmp_path) == []
    with pytest.raises(FileError, match="no adapter"):
        write_sheet(tmp_path / "sheet.png", [])
    with pytest.raises(FileError, match="none"):
        list_concepts(tmp_path / "none")
