"""The embedded base is frozen: tables, adapters and results of users hang on its very weights."""

from pathlib import Path

import d2plan
from d2plan.backbone.load import fingerprint_base

MINI = Path(d2plan.__file__).parent / "assets" / "mini"


def test_mini_1_is_the_base_that_its_card_describes() -> None:
    assert fingerprint_base(MINI) == "812fe47d70b78594"
    assert "`812fe47d70b78594`" in (MINI / "MODEL_CARD.md").read_text(encoding="utf-8")
