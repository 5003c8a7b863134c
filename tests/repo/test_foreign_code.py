"""Fault F9: code that comes with a folder of weights is never run, not even when somebody would say yes."""

import json
import shutil
import sys
from contextlib import suppress

import pytest

from d2plan.errors import D2PlanError
from d2plan.etp.local import LocalChat
from d2plan.eval.encoders import open_encoder
from d2plan.eval.likeness import ClipEncoder
from d2plan.isp.grounded import GroundedSam
from tests.etp.test_local import write_model
from tests.eval.tiny_encoders import write_tiny_clip, write_tiny_dino
from tests.isp.tiny_detectors import write_dino, write_sam


def _write_detector(folder):
    write_dino(folder / "grounding-dino")
    write_sam(folder / "sam")
    return folder


OPENED = {
    "detector": (_write_detector, lambda folder: GroundedSam(folder / "grounding-dino", folder / "sam", "cpu")),
    "clip": (write_tiny_clip, lambda folder: open_encoder(f"clip:{folder}")),
    "dino": (write_tiny_dino, lambda folder: open_encoder(f"dino:{folder}")),
    "chooser": (write_tiny_clip, ClipEncoder),
    "chat": (write_model, LocalChat),
}
CLASSES = {
    "config.json": ("AutoConfig", "AutoModel", "AutoModelForCausalLM"),
    "tokenizer_config.json": ("AutoTokenizer",),
    "preprocessor_config.json": ("AutoImageProcessor", "AutoProcessor"),
    "processor_config.json": ("AutoImageProcessor", "AutoProcessor"),
}
UNKNOWN = {
    "config.json": {"model_type": "evil"},
    "tokenizer_config.json": {"tokenizer_class": "Evil"},
    "preprocessor_config.json": {"image_processor_type": "Evil"},
    "processor_config.json": {"processor_class": "Evil"},
}


@pytest.mark.parametrize("stranger", [(), *((name,) for name in UNKNOWN)], ids=["known", *UNKNOWN])
@pytest.mark.parametrize("what", OPENED)
def test_code_beside_weights_is_never_run(what, stranger, tmp_path, monkeypatch):
    write, open_folder = OPENED[what]
    folder, written = write(tmp_path / "folder"), tmp_path / "written"
    found = [path for name in CLASSES for path in folder.rglob(name)]
    assert found
    for path in found:
        classes = {name: [None, "evil.Evil"] if name == "AutoTokenizer" else "evil.Evil" for name in CLASSES[path.name]}
        changes = {"auto_map": classes, **(UNKNOWN[path.name] if path.name in stranger else {})}
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        (path.parent / "evil.py").write_text(f"open({str(written)!r}, 'w').close()\nclass Evil: pass\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    monkeypatch.syspath_prepend(folder)
    with suppress(D2PlanError):
        open_folder(folder)
    assert not written.exists()
    assert not [name for name in sys.modules if name.rpartition(".")[2] == "evil"]


@pytest.mark.parametrize("what", ["detector", "clip", "dino", "chooser"])
def test_pickled_weights_are_never_opened(what, tmp_path):
    write, open_folder = OPENED[what]
    folder = write(tmp_path / "folder")
    for path in folder.rglob("*.safetensors"):
        shutil.move(path, path.with_name("pytorch_model.bin"))
    with pytest.raises(D2PlanError):
        open_folder(folder)
