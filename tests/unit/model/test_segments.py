import torch

from umbel.model.segments import find_segments


def by_loops(ids, real):
    """Cut each row where the id changes or padding begins, one token at a time."""
    sequences = []
    for b, row in enumerate(ids):
        for t, segment in enumerate(row):
            if not real[b][t]:
                continue
            if t == 0 or row[t - 1] != segment or not real[b][t - 1]:
                sequences.append([])
            sequences[-1].append(b * len(row) + t)
    return sequences


def test_finds_what_loops_find_and_comes_back():
    ids = [[0, 0, 0, 1, 1, 2], [7, 7, 3, 3, 3, 7], [1, 1, 1, 1, 1, 1]]
    real = [[True] * 6, [True, True, True, False, True, True], [False] * 6]
    segments = find_segments(torch.tensor(ids), torch.tensor(real))
    wanted = by_loops(ids, real)
    assert segments.spans.tolist() == [[0, len(s)] for s in wanted]
    for row, sequence in zip(segments.places, wanted, strict=True):
        assert row[: len(sequence)].tolist() == sequence
    x = torch.randn(3, 6, 2)
    alone = segments.alone(x)
    assert alone.shape == (len(wanted), max(map(len, wanted)), 2)
    back = segments.together(alone)
    mask = torch.tensor(real)
    assert torch.equal(back[mask], x[mask])


def test_nothing_but_padding():
    segments = find_segments(torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3, dtype=torch.bool))
    assert segments.spans.tolist() == [[0, 0]]
    assert segments.together(segments.alone(torch.ones(2, 3, 4))).shape == (2, 3, 4)
