import pytest

from umbel.config import LengthStage
from umbel.data.lengths import pieces, shortest_piece_bp, stage_bp


def test_a_step_has_the_length_of_its_stage_by_a_list_of_all_steps():
    stages = [LengthStage(64, 3), LengthStage(256, 1), LengthStage(128, 2)]
    by_step = [64] * 3 + [256] + [128] * 2 + [512] * 4
    assert [stage_bp(stages, step, 512) for step in range(10)] == by_step
    assert stage_bp([], 0, 512) == 512


@pytest.mark.parametrize("most_bp", [1, 2, 3, 7, 64])
def test_pieces_cover_all_once_are_few_and_nearly_equal(most_bp):
    for n_bp in range(1, 200):
        cut = pieces(n_bp, most_bp)
        assert [base for start, end in cut for base in range(start, end)] == list(range(n_bp))
        sizes = [end - start for start, end in cut]
        assert max(sizes) <= most_bp and max(sizes) - min(sizes) <= 1
        assert (len(cut) - 1) * most_bp < n_bp


def test_the_shortest_piece_by_trying_every_window():
    for most_bp in range(1, 40):
        tried = min(end - start for n in range(most_bp + 1, 5 * most_bp + 2) for start, end in pieces(n, most_bp))
        assert shortest_piece_bp(most_bp) == tried
