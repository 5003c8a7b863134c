"""Maps of round blobs, and what holds for every set of masks."""

import torch

SIZE = (16, 16)


def blob(*centres: tuple[float, float], size: tuple[int, int] = SIZE, radius: float = 2.5) -> torch.Tensor:
    """A map with a bump at each centre (y, x)."""
    ys, xs = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in size), indexing="ij")
    return sum((torch.exp(-((ys - y) ** 2 + (xs - x) ** 2) / (2 * radius**2)) for y, x in centres), torch.zeros(size))


def assert_is_a_partition(masks: torch.Tensor) -> None:
    """Masks are 0..1 and sum to 1 everywhere."""
    assert torch.isfinite(masks).all()
    assert masks.min() >= 0 and masks.max() <= 1
    assert torch.allclose(masks.sum(dim=0), torch.ones(masks.shape[1:]), atol=1e-6)


def centre_x(mask: torch.Tensor) -> float:
    """How far to the right a mask lies, cells."""
    xs = torch.arange(mask.shape[1], dtype=torch.float32)
    return float((mask.sum(dim=0) * xs).sum() / mask.sum())
