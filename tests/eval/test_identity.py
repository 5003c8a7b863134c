import numpy as np
import pytest
import torch
from torchmetrics.functional import pairwise_cosine_similarity

from d2plan.eval.identity import (
    identities_found,
    identity_alignments,
    identity_table,
    is_confused,
    least_identity,
)
from d2plan.eval.matching import match_exactly, match_greedily


def test_the_table_is_each_persons_middle_against_each_face():
    rng = np.random.default_rng(0)
    references = [rng.normal(size=(count, 8)) for count in (3, 5)]
    seen = rng.normal(size=(4, 8))
    centres = torch.from_numpy(np.stack([rows.mean(0) for rows in references]))
    expected = pairwise_cosine_similarity(centres, torch.from_numpy(seen), zero_diagonal=False).numpy()
    assert identity_table(references, seen) == pytest.approx(expected, abs=1e-5)
    assert identity_table(references, np.zeros((0, 8))).shape == (2, 0)


def fastcomposer(scores):
    """The published matching, in its own few lines: the least of the pairs taken by greed, at least 0."""
    scores, taken = scores.copy(), []
    for _ in range(len(scores)):
        row, column = divmod(int(np.argmax(scores)), scores.shape[1])
        taken.append(scores[row, column])
        scores[row, :], scores[:, column] = -1, -1
    return max(min(taken), 0.0)


@pytest.mark.parametrize("seed", range(20))
def test_the_least_identity_is_fastcomposers(seed):
    likeness = np.random.default_rng(seed).uniform(-0.3, 1, size=(3, 3))
    found = identities_found(likeness, match_greedily(likeness))
    assert least_identity(found) == pytest.approx(fastcomposer(likeness), abs=1e-5)


def test_the_exact_match_has_at_least_the_sum_of_the_greedy_one():
    likeness = np.array([[0.9, 0.8], [0.7, 0.1]])
    greedy, exact = (identities_found(likeness, match(likeness)) for match in (match_greedily, match_exactly))
    assert greedy == pytest.approx((0.9, 0.1))
    assert exact == pytest.approx((0.8, 0.7))


def test_who_is_absent_counts_as_zero():
    likeness = np.array([[0.6], [-0.2]])
    found = identities_found(likeness, (None, 0))
    assert found == (None, pytest.approx(-0.2))
    assert identity_alignments(found) == (0.0, 0.0)
    assert identity_alignments(identities_found(likeness, (0, None))) == (pytest.approx(0.6), 0.0)


def test_looking_more_like_another_concept_is_confused():
    likeness = np.array([[0.9, 0.8], [0.2, 0.3]])
    matches = match_exactly(likeness)
    assert matches == (0, 1)
    assert [is_confused(likeness, matches, index) for index in (0, 1)] == [False, True]


def test_nobody_else_or_nobody_there_is_no_answer():
    assert is_confused(np.array([[0.9]]), (0,), 0) is None
    assert is_confused(np.array([[0.9], [0.1]]), (0, None), 1) is None


def test_the_same_concept_twice_is_never_confused():
    likeness = np.array([[0.9, 0.8], [0.9, 0.8]])
    assert [is_confused(likeness, (0, 1), index) for index in (0, 1)] == [False, False]
