"""Laws of structure decoding: thresholds, widening, batches, empty and broken logits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cupid_core.errors import InvalidTensorError, StructureEmptyError
from cupid_core.models.structure_decode import decode_structure


def logits(seed: int, items: int = 3, edge: int = 6, offset: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    occupancy = torch.randn(items, 1, edge, edge, edge, generator=generator) + offset
    return occupancy, torch.randn(items, 3, edge, edge, edge, generator=generator)


def widened(field: torch.Tensor, minimum: int, step: float) -> torch.Tensor:
    """The rule as it is told: lower the threshold until there are enough."""
    count = 0
    while (field > -count * step).sum() < minimum:
        count += 1
    return (field > -count * step).nonzero()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    offset=st.floats(-4.0, 1.0),
    minimum=st.integers(1, 30),
    step=st.sampled_from([0.05, 0.31, 1.0]),
)
def test_widening_is_the_smallest_number_of_steps(seed, offset, minimum, step):
    occupancy, uv = logits(seed, offset=offset)
    decoded = decode_structure(occupancy, uv, minimum=minimum, step=step, on_empty="keep")
    for item in range(3):
        mine = decoded.uv_coords[decoded.uv_coords[:, 0] == item][:, 1:]
        assert torch.equal(mine.long(), widened(occupancy[item, 0].double(), minimum, step))
        assert int(decoded.counts[item]) == int((occupancy[item] > 0).sum())


def test_coordinates_and_uv_belong_together():
    occupancy, uv = logits(0, offset=-0.5)
    decoded = decode_structure(occupancy, uv, select="flag")
    item, x, y, z = decoded.uv_coords.long().T
    assert (uv[item, 0, x, y, z] > 0).all() and len(item) == int((uv[:, 0] > 0).sum())
    torch.testing.assert_close(decoded.uv, torch.sigmoid(torch.stack([uv[item, c, x, y, z] for c in (1, 2)], 1)))
    item, x, y, z = decoded.coords.long().T
    assert (occupancy[item, 0, x, y, z] > 0).all() and len(item) == int((occupancy > 0).sum())
    keys = ((item * 6 + x) * 6 + y) * 6 + z
    assert (keys.diff() > 0).all()


def test_one_item_alone_is_the_same():
    occupancy, uv = logits(1)
    together = decode_structure(occupancy, uv)
    for item in range(3):
        alone = decode_structure(occupancy[item : item + 1], uv[item : item + 1])
        mine = together.uv_coords[:, 0] == item
        assert torch.equal(together.uv_coords[mine][:, 1:], alone.uv_coords[:, 1:])
        torch.testing.assert_close(together.uv[mine], alone.uv)


def test_the_widening_stops_at_the_whole_grid():
    occupancy, uv = logits(2, items=1, edge=2, offset=-100.0)
    decoded = decode_structure(occupancy, uv, on_empty="keep")
    assert len(decoded.coords) == 0 and len(decoded.uv) == 8


def test_nothing_occupied_is_an_error_that_names_the_items():
    occupancy, uv = logits(3)
    occupancy[1] = -1.0
    with pytest.raises(StructureEmptyError, match=r"items \[1\] of 3") as caught:
        decode_structure(occupancy, uv)
    assert caught.value.code == "structure_empty"
    assert decode_structure(occupancy, uv, on_empty="keep").counts.tolist()[1] == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("which", [0, 1])
def test_broken_logits_are_an_error(value, which):
    pair = logits(4)
    pair[which][0, 0, 1, 2, 3] = value
    with pytest.raises(InvalidTensorError, match="NaN or infinity"):
        decode_structure(*pair)
