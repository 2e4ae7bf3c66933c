from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch

from losses import CellMatches, atss_match

Grid = Sequence[Sequence[int]]


def _naive(
    boxes: torch.Tensor, shapes: Grid, strides: Grid, *, anchor_scale: float, candidates: int
) -> dict[int, int]:
    """Every cell of every level, in plain Python: cell to box."""
    claims: list[tuple[float, int, int]] = []
    ranked: list[list[tuple[float, float, int]]] = []
    for number, box in enumerate(boxes.double().tolist()):
        rank = len(box) // 2
        low, high = box[:rank], box[rank:]
        found, start = [], 0
        for shape, stride in zip(shapes, strides, strict=True):
            level = []
            for flat, index in enumerate(itertools.product(*map(range, shape))):
                centre = [(i + 0.5) * s for i, s in zip(index, stride, strict=True)]
                middle = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
                distance = sum((c - m) ** 2 for c, m in zip(centre, middle, strict=True))
                widths = [anchor_scale * s for s in stride]
                shared = math.prod(
                    max(0.0, min(b, c + w / 2) - max(a, c - w / 2))
                    for a, b, c, w in zip(low, high, centre, widths, strict=True)
                )
                size = math.prod(b - a for a, b in zip(low, high, strict=True))
                iou = shared / (math.prod(widths) + size - shared)
                inside = all(a < c < b for a, b, c in zip(low, high, centre, strict=True))
                level.append((distance, flat + start, iou, inside))
            found += sorted(level)[:candidates]
            start += math.prod(shape)
        ious = torch.tensor([row[2] for row in found], dtype=torch.float64)
        spread = float(ious.std()) if len(ious) > 1 else 0.0
        threshold = float(ious.mean()) + spread - 1e-9
        claims += [
            (-iou, number, cell) for _, cell, iou, inside in found if inside and iou >= threshold
        ]
        ranked.append([(-iou, distance, cell) for distance, cell, iou, _ in found])
    owner: dict[int, int] = {}
    for _, number, cell in sorted(claims):
        owner.setdefault(cell, number)
    for _, number in sorted((min(rows)[0], number) for number, rows in enumerate(ranked)):
        rows = ranked[number]
        if number not in owner.values():
            free = [cell for _, _, cell in sorted(rows) if cell not in owner]
            owner.update({cell: number for cell in free[:1]})
    return owner


def _owner(matches: CellMatches) -> dict[int, int]:
    assert matches.cell.tolist() == sorted(set(matches.cell.tolist()))
    return dict(zip(matches.cell.tolist(), matches.box.tolist(), strict=True))


def _random_boxes(count: int, size: Sequence[int], seed: int, *, on_grid: bool) -> torch.Tensor:
    """Centres up to the border, sizes from a fraction of a cell to half of the image."""
    generator = torch.Generator().manual_seed(seed)
    extent = torch.tensor(size, dtype=torch.float32)
    centre = torch.rand(count, len(size), generator=generator) * extent
    half = 0.3 * (extent.min() / 1.2) ** torch.rand(count, 1, generator=generator)
    half = half * (0.7 + 0.6 * torch.rand(count, len(size), generator=generator))
    if on_grid:  # full of ties
        centre, half = centre.round(), half.ceil()
    return torch.cat((centre - half, centre + half), dim=1)


@pytest.mark.parametrize("on_grid", [False, True])
@pytest.mark.parametrize("candidates", [1, 4, 9, 40])
@pytest.mark.parametrize(
    ("size", "strides"),
    [
        ((13, 16, 9), ((2, 2, 1), (4, 4, 2), (8, 8, 8))),
        ((12, 12, 12), ((3, 3, 3),)),
        ((30, 22), ((2, 2), (4, 4))),
    ],
)
def test_the_window_gives_the_matches_of_a_look_at_all_cells(
    size: tuple[int, ...], strides: Grid, candidates: int, on_grid: bool
) -> None:
    shapes = [[-(-n // s) for n, s in zip(size, stride, strict=True)] for stride in strides]
    for seed in range(3):
        boxes = _random_boxes(4, size, seed, on_grid=on_grid)
        matches = atss_match(boxes, shapes, strides, anchor_scale=1.5, candidates=candidates)
        ours = _owner(matches)
        assert ours == _naive(boxes, shapes, strides, anchor_scale=1.5, candidates=candidates)
        assert set(ours.values()) == set(range(4))


def test_no_box_has_no_cell() -> None:
    matches = atss_match(torch.zeros(0, 6), [(4, 4, 4)], [(2, 2, 2)], anchor_scale=2, candidates=9)
    assert [tuple(values.shape) for values in matches] == [(0,), (0,), (0, 3), (0, 3)]


def test_cells_come_with_their_place() -> None:
    # The first box is an anchor of the coarse level at cell (1, 0), the second of the fine one's
    # cell (5, 2).
    boxes = torch.tensor([[4.0, 0.0, 12.0, 8.0], [9.0, 3.0, 13.0, 7.0]])
    shapes, strides = [(8, 8), (4, 4)], [(2, 2), (4, 4)]
    matches = atss_match(boxes, shapes, strides, anchor_scale=2, candidates=1)
    assert matches.cell.tolist() == [5 * 8 + 2, 64 + 4]
    assert matches.box.tolist() == [1, 0]
    assert matches.centre_voxel.tolist() == [[11, 5], [6, 2]]
    assert matches.stride_voxel.tolist() == [[2, 2], [4, 4]]


def test_of_cells_that_tie_the_lowest_index_stays_a_candidate() -> None:
    # Centred on a corner of cells: all four are as near and overlap as much.
    box = torch.tensor([[3.0, 3.0, 5.0, 5.0]])
    for candidates, cells in ((1, [5]), (3, [5, 6, 9]), (4, [5, 6, 9, 10])):
        # Of the smaller box no cell's centre is inside, so only the best is taken.
        for half, expected in ((1.5, cells), (0.5, cells[:1])):
            box = torch.tensor([[4.0 - half, 4.0 - half, 4.0 + half, 4.0 + half]])
            matches = atss_match(box, [(4, 4)], [(2, 2)], anchor_scale=1, candidates=candidates)
            assert matches.cell.tolist() == expected


def test_a_box_smaller_than_a_cell_takes_the_nearest_of_the_finest() -> None:
    box = torch.tensor([[8.2, 4.1, 12.1, 8.6, 4.6, 12.4]])
    shapes, strides = [(8, 8, 8), (4, 4, 4)], [(2, 2, 2), (4, 4, 4)]
    matches = atss_match(box, shapes, strides, anchor_scale=2, candidates=9)
    assert matches.centre_voxel.tolist() == [[9, 5, 13]]


def test_a_cell_that_two_boxes_claim_goes_to_the_larger_overlap_and_both_have_one() -> None:
    one = torch.tensor([[2.0, 2.0, 4.0, 4.0]])
    other = torch.tensor([[2.0, 2.0, 4.0, 3.9]])
    # Cell 5 fits the one exactly. The loser takes its next nearest, of those that tie the lowest.
    for boxes, expected in (
        ((one, other), {5: 0, 4: 1}),
        ((other, one), {5: 1, 4: 0}),
        ((one, one), {5: 0, 1: 1}),
    ):
        matches = atss_match(torch.cat(boxes), [(4, 4)], [(2, 2)], anchor_scale=1, candidates=2)
        assert _owner(matches) == expected


def test_boxes_beyond_the_cells_go_without() -> None:
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 6.0, 6.0], [1.0, 1.0, 2.0, 2.0]])
    matches = atss_match(boxes, [(1, 1)], [(8, 8)], anchor_scale=1, candidates=9)
    # Of a single cell, as a pooled detector has, the box of the largest overlap round its centre.
    assert _owner(matches) == {0: 1}


def test_a_box_that_reaches_beyond_the_border_keeps_its_cells() -> None:
    box = torch.tensor([[-6.0, 10.0, 2.0, 18.0]])
    matches = atss_match(box, [(8, 8)], [(2, 2)], anchor_scale=4, candidates=9)
    assert len(matches.cell) and (matches.centre_voxel[:, 0] < 2).all()
