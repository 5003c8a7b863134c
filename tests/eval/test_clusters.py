import numpy as np
import pytest

from d2plan.errors import ShapeError
from d2plan.eval.clusters import cluster_rows


def test_blobs_that_lie_apart_are_found_in_any_order() -> None:
    rng = np.random.default_rng(0)
    truth = rng.permutation(np.repeat(np.arange(4), 25))
    places = np.array([[0, 0], [9, 0], [0, 9], [9, 9]], dtype=np.float32)
    rows = (places[truth] + rng.normal(0, 0.5, (100, 2))).astype(np.float32)
    labels = cluster_rows(rows, 4)
    assert len({(label, group) for label, group in zip(labels.tolist(), truth.tolist(), strict=True)}) == 4
    assert np.array_equal(labels, cluster_rows(rows, 4))


def test_there_are_never_more_groups_than_different_rows() -> None:
    assert cluster_rows(np.ones((5, 3), dtype=np.float32), 4).tolist() == [0] * 5
    assert set(cluster_rows(np.array([[0.0], [1.0], [1.0]], dtype=np.float32), 3).tolist()) == {0, 1}


def test_rows_that_are_no_table_are_refused() -> None:
    with pytest.raises(ShapeError):
        cluster_rows(np.ones(4, dtype=np.float32), 2)
