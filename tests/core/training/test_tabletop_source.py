"""Views for training: image positions, surface points and voxels agree after every change of a view."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

from cupid_core.data.tabletop import TabletopSettings, mirrored, sample_tabletop
from cupid_core.geometry.grid import all_voxel_centers
from cupid_core.geometry.similarity import align_robust
from cupid_core.models.conv_image_encoder import with_hidden
from cupid_core.training.shards import ShardRows, ShardStore
from cupid_core.training.structure_batch import project_normalized
from cupid_core.training.tabletop_source import TabletopSource, TabletopSourceSettings, row_numbers
from cupid_core.training.tabletop_views import TabletopViewRecipe, pack_bits, unpack_bits
from cupid_core.training.view_change import (
    ViewChange,
    ViewChangeSettings,
    change_color,
    change_image,
    draw_change,
)

OBJECTS = TabletopSettings(views_per_object=2, image_size=64, resolution=16, degradation=0.0, occluded=0.0)
SETTINGS = TabletopSourceSettings(
    objects=OBJECTS, objects_per_shard=4, first_shards=1, most_shards=2, validation_objects=4, cells=16
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return TabletopSource(tmp_path_factory.mktemp("shards"), SETTINGS, seed=5)


def _uv_at(uv, points):
    """Interpolate a dense field (B, 2, R, R, R) at object points (B, N, 3)."""
    grid = (2 * points)[:, None, None]
    return F.grid_sample(uv.permute(0, 1, 4, 3, 2), grid, align_corners=False)[:, :, 0, 0].mT


def test_surface_points_project_to_their_cells(source):
    batch = source.batch(0, 8)
    cells = SETTINGS.cells
    axis = (torch.arange(cells) + 0.5) / cells
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    places = torch.stack([u, v], dim=-1).view(1, -1, 2).expand(8, -1, 2)
    found = _uv_at(batch.uv, batch.xyz.flatten(2).mT)
    inner = batch.xyz.flatten(2).mT.abs().amax(-1) < 0.46  # the field is clamped beyond the outermost centers
    chosen = batch.visible_mask.flatten(1) & inner & ((found > 0.02) & (found < 0.98)).all(-1)
    error = (found - places).norm(dim=-1)[chosen] * OBJECTS.image_size
    assert int(chosen.sum()) > 100
    # Depth is stored at every second pixel, so a point is up to one pixel (in each direction) beside its cell.
    assert float(error.median()) < 1.0 and float(error.quantile(0.98)) < 2.5


def test_seen_cells_are_where_the_mask_is(source):
    batch = source.batch(3, 8)
    mask = F.interpolate(batch.image[:, 3:4], size=SETTINGS.cells, mode="area") > 0.6
    assert float((mask & batch.visible_mask).sum() / (mask | batch.visible_mask).sum()) > 0.8


def test_voxels_project_onto_the_object(source):
    batch = source.batch(1, 8)
    for item in range(8):
        places = batch.uv[item].permute(1, 2, 3, 0)[batch.occupancy[item, 0] & batch.flag[item, 0]]
        hit = F.grid_sample(batch.image[item : item + 1, 3:4], (2 * places - 1)[None, None], align_corners=False)
        assert float((hit > 0.2).float().mean()) > 0.85


def test_surfaces_are_those_of_the_same_views(source):
    whole, surfaces = source.batch(4, 8), source.surfaces(4, 8)
    unseen, more = source.validation(3)[0], source.validation_surfaces(3)[0]
    for batch, part in ((whole, surfaces), (unseen, more)):
        assert torch.equal(batch.image, part.image)
        assert torch.equal(batch.xyz, part.xyz) and torch.equal(batch.visible_mask, part.visible_mask)


def test_batches_follow_from_their_number(source, tmp_path):
    again = TabletopSource(tmp_path, SETTINGS, seed=5)
    for number in (0, 4):
        one, other = source.batch(number, 4), again.batch(number, 4)
        for name, value in vars(one).items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, getattr(other, name)), name
    assert not torch.equal(source.batch(0, 4).image, source.batch(1, 4).image)


def test_the_pool_grows_with_the_batches_up_to_its_end(source):
    sizes = [source.pool(number, 8) for number in range(20)]
    assert sizes[0] == 1 and sizes[-1] == 2 and sizes == sorted(sizes)
    # Four uses of each of the first shard's eight views, then the second shard may be drawn from.
    assert sizes.index(2) == 4


def test_unseen_views_are_not_changed_and_not_of_the_training(source):
    batch, truth = source.validation(4)
    expected = sample_tabletop(range(4), OBJECTS.model_copy(update={"views_per_object": 1}), seed=6, split="train")
    torch.testing.assert_close(batch.image[:, :3], expected.image[:, :3], atol=1 / 255, rtol=0)
    torch.testing.assert_close(batch.uv, expected.uv.permute(0, 4, 1, 2, 3).clamp(0, 1), atol=1e-5, rtol=0)
    assert torch.equal(batch.occupancy[:, 0], expected.shell)
    torch.testing.assert_close(truth.T_camera_object, expected.T_camera_object)


def test_a_mirrored_view_is_that_of_the_mirrored_object():
    batch = sample_tabletop(range(3), OBJECTS.model_copy(update={"views_per_object": 1}), seed=5)
    expected = mirrored(batch)
    change = ViewChange(
        torch.tensor([[-1.0, 0.0], [0.0, 1.0]]).repeat(3, 1, 1), torch.zeros(3, 2), torch.ones(3, dtype=torch.bool)
    )
    centers = change.flip_object(all_voxel_centers(16)[None].expand(3, -1, -1, -1, -1))
    uv = change.forwards(project_normalized(centers, batch.T_camera_object, batch.intrinsics))
    torch.testing.assert_close(uv, expected.uv, atol=1e-4, rtol=1e-4)
    image, _ = change_image(batch.image, batch.occluder, change)
    torch.testing.assert_close(image, expected.image, atol=1e-4, rtol=0)


def test_changes_are_undone():
    change = draw_change(50, ViewChangeSettings(moved=1.0), torch.Generator().manual_seed(0))
    uv = torch.rand(50, 7, 3, 2)
    torch.testing.assert_close(change.backwards(change.forwards(uv)), uv, atol=1e-5, rtol=0)
    assert float((change.matrix.det() < 0).float().mean()) == float(change.mirrored.float().mean())
    none = draw_change(4, None, torch.Generator())
    torch.testing.assert_close(none.forwards(uv[:4]), uv[:4])


def test_colors_stay_within_the_mask_and_the_mask_stays():
    image = torch.rand(4, 4, 16, 16)
    image[:, 3] = (image[:, 3] > 0.5).float()
    image[:, :3] *= image[:, 3:]
    changed = change_color(image, ViewChangeSettings(), torch.Generator().manual_seed(0))
    assert torch.equal(changed[:, 3], image[:, 3])
    assert not changed[:, :3][(image[:, 3:] == 0).expand(-1, 3, -1, -1)].any()
    assert float(changed.min()) >= 0 and float(changed.max()) <= 1


def test_hidden_parts_are_a_half_in_the_mask_channel_and_never_on_the_object():
    image = torch.zeros(1, 4, 2, 2)
    image[0, 3, 0, 0] = 1.0
    hidden = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    assert with_hidden(image, hidden)[0, 3].tolist() == [[1.0, 0.5], [0.0, 0.0]]


def test_bits_are_packed_and_unpacked():
    rows = torch.rand(5, 77) > 0.5
    assert torch.equal(unpack_bits(pack_bits(rows), 77), rows)


def test_bits_are_unpacked_alike_by_shifting_them():
    packed = pack_bits(torch.rand(5, 77) > 0.5)
    place = torch.arange(7, -1, -1, dtype=torch.uint8)
    shifted = ((packed[..., None] >> place) & 1).flatten(1)[:, :77].bool()  # the way of other devices
    assert torch.equal(shifted, unpack_bits(packed, 77))


@dataclass(frozen=True)
class _Random:
    """Five shards of random numbers."""

    name: str = "random"

    def describe(self) -> str:
        return "random"

    def make(self, index: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(index)
        return {"image": torch.rand(8, 2, 3, generator=generator), "shell": torch.rand(4, 5, generator=generator)}


def test_rows_that_are_kept_are_those_that_are_read(tmp_path):
    store, generator = ShardStore(tmp_path, _Random()), torch.Generator().manual_seed(0)
    views, shards = (
        torch.randint(8, (40,), generator=generator),
        torch.randint(5, (40,), generator=generator).tolist(),
    )
    kept, read = (
        ShardRows(store, ("image", "shell"), torch.device("cpu"), resident=resident) for resident in (True, False)
    )
    for part in (slice(0, 3), slice(3, 40)):
        rows = row_numbers(views[part], 2)
        one, other = kept.gather(shards[part], rows), read.gather(shards[part], rows)
        assert one.keys() == other.keys() == {"image", "shell"}
        for name, value in one.items():
            assert torch.equal(value, other[name])
        assert torch.equal(one["image"][0], store.read(shards[part][0])["image"][views[part][0]])


def test_a_recipe_names_what_it_depends_on():
    one = TabletopViewRecipe(OBJECTS)
    other = TabletopViewRecipe(OBJECTS.model_copy(update={"elevation_low_deg": 0.0}))
    assert one.describe() != other.describe() and one.describe() == TabletopViewRecipe(OBJECTS).describe()


def test_measured_points_are_those_of_the_surface_up_to_a_similarity(source):
    batch = source.validation(4)[0]
    cells, compared = F.interpolate(batch.image[:, 4:8], size=SETTINGS.cells, mode="nearest"), 0
    for item in range(4):
        chosen = (cells[item, 3] > 0) & batch.visible_mask[item, 0]
        if int(chosen.sum()) < 30:  # a sensor that lost most of it
            continue
        found = align_robust(batch.xyz[item][:, chosen].T, cells[item, :3][:, chosen].T)
        assert found.residual_rms < 0.1 * float(found.T_b_a.scale)  # the noise of the sensor
        compared += 1
    assert compared >= 2


def test_depth_and_up_are_left_out_of_some_views_and_up_is_upright(source):
    change = ViewChangeSettings(depth_known=0.5, up_known=0.5, mirrored=0.5)
    made = TabletopSource(source._store.folder.parent, SETTINGS.model_copy(update={"change": change}), seed=5)
    image = made.surfaces(0, 256).image
    depth, up = (image[:, channel].amax(dim=(1, 2)) > 0 for channel in (7, 9))
    assert 0.3 < float(depth.float().mean()) < 0.7 and 0.25 < float(up.float().mean()) < 0.7
    # A view from above looks down, and more so in its lower rows; turned upright, columns do not differ.
    down = image[up, 8]
    rows, columns = down.diff(dim=1).mean(dim=(1, 2)), down.diff(dim=2).mean(dim=(1, 2))
    assert float((columns.abs() < 0.3 * rows.abs()).float().mean()) > 0.95 and bool((rows > 0).all())


def test_a_changed_camera_projects_to_the_changed_places():
    change = draw_change(20, ViewChangeSettings(moved=1.0), torch.Generator().manual_seed(1))
    K = torch.tensor([[1.7, 0, 0.4], [0, 1.7, 0.8], [0, 0, 1]]).repeat(20, 1, 1)
    points = torch.rand(20, 5, 3) + torch.tensor([-0.5, -0.5, 2.0])
    uv = (points @ K.mT)[..., :2] / points[..., 2:]
    changed, turned = change.camera(K)
    again = points @ turned.mT @ changed.mT
    torch.testing.assert_close(again[..., :2] / again[..., 2:], change.forwards(uv), atol=1e-5, rtol=0)
