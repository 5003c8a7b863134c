from pathlib import Path

import torch

from d2plan.dislora.cache import keep_tensors


def test_tensors_are_made_once_for_a_key_and_anew_for_another_or_when_damaged(tmp_path: Path) -> None:
    path, made = tmp_path / "latents.safetensors", []

    def make() -> dict[str, torch.Tensor]:
        made.append(1)
        return {"a": torch.arange(12.0).view(3, 4).T, "b": torch.ones(2, dtype=torch.bfloat16)}

    first = keep_tensors(path, "one", make)
    again = keep_tensors(path, "one", make)
    assert len(made) == 1 and all(torch.equal(first[name], again[name]) for name in ("a", "b"))
    keep_tensors(path, "two", make)
    assert len(made) == 2
    content = bytearray(path.read_bytes())
    for damaged in (content[:-3], content[:10], b"", content[:-1] + bytes([content[-1] ^ 1])):
        path.write_bytes(damaged)
        assert torch.equal(keep_tensors(path, "two", make)["a"], first["a"])
    assert len(made) == 6
    assert [found.name for found in tmp_path.iterdir()] == ["latents.safetensors"]


def test_where_nothing_can_be_written_the_tensors_are_made_all_the_same(tmp_path: Path) -> None:
    kept = keep_tensors(tmp_path / "nowhere" / "x.safetensors", "one", lambda: {"a": torch.ones(1)})
    assert torch.equal(kept["a"], torch.ones(1))
