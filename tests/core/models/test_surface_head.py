"""The head of canonical points: bins encode points and their confidence."""

import torch

from cupid_core.models.surface_head import SurfaceHead, bin_points, bin_targets


def test_bins_give_back_the_points_they_were_made_of():
    points = torch.rand(2, 3, 4, 4) * 0.94 - 0.47
    found, sure = bin_points(bin_targets(points, 24).clamp(min=1e-9).log())
    torch.testing.assert_close(found, points, atol=1e-4, rtol=0)
    assert float(sure.min()) > 0.999


def test_even_bins_are_unsure():
    _, sure = bin_points(torch.zeros(1, 3, 24, 2, 2))
    assert float(sure.max()) < 0.02


def test_a_head_without_bins_has_none():
    tokens = torch.rand(1, 16, 24)
    assert SurfaceHead(24)(tokens, 4).bins is None
    made = SurfaceHead(24, 12)(tokens, 4)
    assert made.points.shape == (1, 3, 8, 8) and made.bins.shape == (1, 3, 12, 8, 8)
    cell = torch.zeros(1, 16, 4)
    cell[0, 6, 1] = 1.0  # the sixth token is row 1, column 2; its second cell is the right upper one
    head = SurfaceHead(4)
    torch.nn.init.eye_(head.hidden.weight)
    torch.nn.init.zeros_(head.hidden.bias)
    head.out.weight.data[1] = 1.0
    assert torch.nonzero(head(cell, 4).points[0, 0] > 0.5).tolist() == [[2, 5]]
