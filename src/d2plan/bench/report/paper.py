"""The paper's own tables, as printed, with every difference computed again from the two numbers beside it.

Its base is SDXL and its concepts are photographs; the numbers are here to stand beside ours, never to be reached.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

PAPER_BASE = "SDXL base 1.0, 1024 px, photographs"
PAPER_ENCODERS: Mapping[str, str] = {
    "text": "CLIP score (the printed values fit 2.5 x cosine), encoder not named",
    "image": "CLIP image features, encoder not named",
    "identity": "ArcFace, weights not named",
    "consistency": "T-Cons, encoder not named",
}


@dataclass(frozen=True)
class PaperCell:
    """Three numbers of one method under one metric.

    Attributes:
        single: with one concept in the picture, as printed.
        multi: with several, as printed.
        printed: their difference, as printed.
    """

    single: str
    multi: str
    printed: str

    @property
    def difference(self) -> Decimal:
        """What multi minus single is."""
        return Decimal(self.multi) - Decimal(self.single)

    @property
    def is_wrong(self) -> bool:
        """Whether the printed difference is another."""
        return Decimal(self.printed) != self.difference


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        number: in the paper.
        title: what it shows.
        metrics: key to the column's heading, in the paper's order.
        rows: method to metric to cell; methods by the names of ``d2plan bench``.
    """

    number: int
    title: str
    metrics: Mapping[str, str]
    rows: Mapping[str, Mapping[str, PaperCell]]

    def list_errors(self) -> Iterator[tuple[str, str, PaperCell]]:
        """Give method, metric and cell of every printed difference that is wrong."""
        for method, cells in self.rows.items():
            for metric, cell in cells.items():
                if cell.is_wrong:
                    yield method, metric, cell


PAPER_TITLES: Mapping[str, str] = {
    "dreambooth": "DreamBooth",
    "textual-inversion": "Textual Inversion",
    "p-plus": "P+",
    "custom-diffusion": "Custom Diffusion",
    "mix-of-show": "Mix-of-Show",
    "isp-lora": "ISP + LoRA",
    "isp-dislora": "ISP + DisLoRA",
}

# The paper does not say which of Custom Diffusion's two ways it ran; both of ours stand beside its one row.
PAPER_ROW_OF: Mapping[str, str] = {
    **{name: name for name in PAPER_TITLES if name != "custom-diffusion"},
    "custom-diffusion-joint": "custom-diffusion",
    "custom-diffusion-fusion": "custom-diffusion",
}


def _read_rows(text: str, metrics: Mapping[str, str]) -> dict[str, dict[str, PaperCell]]:
    """Read rows of "method: single multi difference, single multi difference, ..."."""
    rows = {}
    for line in text.strip().splitlines():
        method, cells = line.split(":")
        triples = [PaperCell(*cell.split()) for cell in cells.split(",")]
        rows[method.strip()] = dict(zip(metrics, triples, strict=True))
    return rows


_TABLE_2_METRICS = {
    "text": "Text alignment",
    "image": "Image alignment",
    "identity": "Identity alignment",
    "consistency": "Consistency",
}
_TABLE_3_METRICS = {"identity": "Identity (32 people)", "consistency": "Consistency (32 people)"}

TABLE_2 = PaperTable(
    number=2,
    title="Quantitative results for spatial personalization",
    metrics=_TABLE_2_METRICS,
    rows=_read_rows(
        """
        dreambooth: 0.695 0.688 -0.007, 0.770 0.681 -0.089, 0.631 0.640 +0.009, 0.792 0.624 -0.168
        textual-inversion: 0.683 0.685 +0.002, 0.767 0.696 -0.077, 0.538 0.538 +0.000, 0.653 0.577 -0.076
        p-plus: 0.710 0.705 -0.005, 0.754 0.748 -0.006, 0.569 0.564 -0.005, 0.686 0.583 -0.0103
        custom-diffusion: 0.672 0.720 +0.048, 0.750 0.722 -0.048, 0.605 0.550 -0.055, 0.709 0.591 -0.118
        mix-of-show: 0.700 0.685 -0.015, 0.763 0.748 -0.015, 0.606 0.608 +0.002, 0.757 0.655 -0.102
        isp-lora: 0.712 0.729 +0.017, 0.765 0.758 -0.007, 0.678 0.660 -0.018, 0.836 0.813 -0.023
        isp-dislora: 0.730 0.737 +0.007, 0.773 0.765 -0.008, 0.705 0.692 +0.013, 0.837 0.826 -0.011
        """,
        _TABLE_2_METRICS,
    ),
)

TABLE_3 = PaperTable(
    number=3,
    title="User study for spatial personalization",
    metrics=_TABLE_3_METRICS,
    rows=_read_rows(
        """
        dreambooth: 0.822 0.725 -0.097, 0.510 0.528 +0.018
        textual-inversion: 0.749 0.658 -0.091, 0.485 0.480 -0.015
        p-plus: 0.785 0.604 -0.181, 0.504 0.520 +0.016
        custom-diffusion: 0.708 0.725 +0.017, 0.488 0.476 -0.012
        mix-of-show: 0.793 0.685 -0.108, 0.558 0.634 +0.076
        isp-dislora: 0.832 0.818 -0.014, 0.900 0.932 +0.032
        """,
        _TABLE_3_METRICS,
    ),
)
