"""The embedded base is frozen: tables, adapters and results of users hang on its very weights."""

import hashlib
from pathlib import Path

import d2plan
from d2plan.backbone.load import fingerprint_base

ASSETS = Path(d2plan.__file__).parent / "assets"
MINI = ASSETS / "mini"


def test_mini_1_is_the_base_that_its_card_describes() -> None:
    assert fingerprint_base(MINI) == "812fe47d70b78594"
    assert "`812fe47d70b78594`" in (MINI / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_no_file_of_mini_1_has_changed() -> None:
    digest = hashlib.sha256()
    for path in sorted(MINI.rglob("*")):
        if path.is_file() and path.name != "MODEL_CARD.md":
            name = path.relative_to(MINI).as_posix()
            digest.update(f"{name}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    assert digest.hexdigest() == "56ec56f29f0fbf86741fec1016cf0ba77fea29ff23d714e598917ebbb4d32ac4"


def test_all_weights_together_stay_small() -> None:
    weights = [path.stat().st_size for path in ASSETS.rglob("*.safetensors")]
    assert len(weights) > 10 and sum(weights) <= 45_000_000
    assert max(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()) <= 15 * 2**20
