"""The benchmark: a perfect result is measured as perfect, a known error as that error, a failure as the worst."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from cupid_core.cli import evaluate as evaluate_command
from cupid_core.cli import main
from cupid_core.config import CupidConfig
from cupid_core.data.tabletop import TabletopSettings
from cupid_core.data.tabletop.objects import build_objects
from cupid_core.data.tabletop.splits import draw_shape
from cupid_core.errors import CupidError, InputError, OutputError
from cupid_core.evaluation import measure
from cupid_core.evaluation.benchmark import BenchmarkOptions, open_journal, run_benchmark
from cupid_core.evaluation.image_metrics import silhouette_iou
from cupid_core.evaluation.records import CaseRecord, RecordJournal
from cupid_core.evaluation.report import by_family, by_split, summarize, tables, to_json, write_json
from cupid_core.evaluation.sheet import COLUMNS, contact_sheet, pictures_of
from cupid_core.evaluation.surface_truth import surface_appearance
from cupid_core.evaluation.tabletop_cases import UNSEEN_SEED, tabletop_cases
from cupid_core.evaluation.true_structure import GivenStructure, exact_pose
from cupid_core.geometry import SE3
from cupid_core.packages import open3d
from cupid_core.reconstruct.pipeline import Cupid
from cupid_core.reconstruct.results import Hypothesis, ObjectModel, ObjectState, SceneObject
from cupid_core.reconstruct.stages import Structure
from cupid_core.render.raycast import MeshCaster
from cupid_core.types import Quality, ScaleSource, TriangleMesh

SETTINGS = TabletopSettings(image_size=96, resolution=16, truncated=0.0, occluded=0.0)
FAMILY = "plain_box"


@pytest.fixture
def tiny_cupid(tiny_checkpoint):
    config = CupidConfig()
    few_steps = {
        "pose": config.pose.model_copy(update={"max_noise": 0.5}),
        "reconstruct": config.reconstruct.model_copy(update={"samplers": "settings"}),
        "structure_sampler": config.structure_sampler.model_copy(update={"steps": 2}),
        "appearance_sampler": config.appearance_sampler.model_copy(update={"steps": 2}),
    }
    return Cupid.from_pretrained(str(tiny_checkpoint), config=config.model_copy(update=few_steps))


@pytest.fixture(scope="module")
def case():
    return tabletop_cases([0], SETTINGS, family=FAMILY)[0]


@pytest.fixture(scope="module")
def box(case):
    """The true mesh of the case, which is convex, with the colors of its surface."""
    library = open3d()
    cloud = library.geometry.PointCloud(library.utility.Vector3dVector(case.surface.double().numpy()))
    hull = cloud.compute_convex_hull()[0].subdivide_midpoint(3)
    hull.orient_triangles()
    hull.compute_vertex_normals()
    vertices, normals = (torch.tensor(np.asarray(a)).float() for a in (hull.vertices, hull.vertex_normals))
    objects = build_objects([draw_shape(UNSEEN_SEED, 0, family=FAMILY)], 16, "cpu")
    colors, _ = surface_appearance(objects, vertices, normals)
    return TriangleMesh(vertices, torch.tensor(np.asarray(hull.triangles)).long(), colors, normals)


@pytest.fixture(scope="module")
def truth(case, box):
    return hypothesis_at(case, box, case.T_camera_object)


def hypothesis_at(case, mesh, T_camera_object):
    pose = SE3.from_matrix(T_camera_object)
    coords = case.shell.nonzero()
    crop = case.view_camera(case.camera)
    uv = crop.px_to_uv(
        crop.project(SE3.from_matrix(case.T_camera_object).apply((coords.double() + 0.5) / 16 - 0.5))
    )
    given = GivenStructure(coords, 16, pose)
    structure = Structure(0, 0, coords, uv.float(), 16, exact_pose(given, crop))
    quality = Quality(1.0, None, 0.0, 1.0)
    return Hypothesis(structure, exact_pose(given, case.camera), quality, score=1.0, shape=mesh)


def turned(case, degrees, axis=0):
    tangent = torch.zeros(6, dtype=torch.float64)
    tangent[3 + axis] = math.radians(degrees)
    return case.T_camera_object @ SE3.exp(tangent).matrix()


def test_the_truth_is_measured_as_perfect(case, box, truth):
    structure = measure.structure_figures(case, truth)
    assert structure["rotation_deg"] < 1e-3 and structure["uv_px"] < 1e-3
    assert structure["occupancy_iou"] == structure["occupancy_f1"] == 1.0
    rendering = measure.render_in_view(case, MeshCaster(box), truth.pose.T_camera_object, truth.pose.camera)
    assert silhouette_iou(torch.as_tensor(rendering.mask), case.silhouette) > 0.98
    pictures = measure.picture_figures(case, rendering)
    assert pictures["psnr_inside"] > 25 and pictures["psnr"] > 22
    surface = measure.surface_figures(case, box)
    # Points of the same surface, other ones: what is left is their spacing.
    assert surface["chamfer"] < 0.012 and surface["fscore"] > 0.999


def test_errors_are_measured_as_they_are(case, box, truth):
    wrong = hypothesis_at(case, box, turned(case, 30.0))
    assert measure.structure_figures(case, wrong)["rotation_deg"] == pytest.approx(30.0, abs=1e-2)
    sampled = truth.structure
    shifted = replace(truth, structure=replace(sampled, uv=sampled.uv + torch.tensor([3 / 128, 4 / 128])))
    assert measure.structure_figures(case, shifted)["uv_px"] == pytest.approx(5.0, abs=1e-3)
    upper = sampled.coords[:, 2] >= 8
    half = replace(truth, structure=replace(sampled, coords=sampled.coords[upper], uv=sampled.uv[upper]))
    share = int(upper.sum()) / len(upper)
    assert measure.structure_figures(case, half)["occupancy_iou"] == pytest.approx(share)
    apart = replace(box, vertices=box.vertices + torch.tensor([0.0, 0.0, 2.0]))
    assert measure.surface_figures(case, apart)["chamfer"] > 1.0
    assert measure.surface_figures(case, apart)["fscore"] == 0.0


def placed_at(mesh, T, scale, source=ScaleSource.SENSOR):
    quality = Quality(1.0, None, 0.0, 1.0)
    model = ObjectModel(FAMILY, replace(mesh, vertices=mesh.vertices * scale), True, scale, source, 0.0)
    state = ObjectState(SE3.from_matrix(T), torch.zeros(6, 6))
    return SceneObject(1, model, state, quality, (), {}, truncated=False)


def test_places_in_metres(case, box):
    true = measure.metric_truth(case)
    right = measure.metric_figures(true, placed_at(box, true.T_camera_object, case.scale_m))
    floor_mm = 12 * case.scale_m
    assert right["translation_mm"] < 1e-6 and right["scale_percent"] < 1e-6
    assert right["chamfer_whole_mm"] < floor_mm and right["chamfer_visible_mm"] < 2 * floor_mm
    assert right["fscore_whole"] > 0.99 and right["fscore_visible"] > 0.99
    moved = true.T_camera_object.clone()
    moved[:3, 3] += torch.tensor([0.03, 0.0, 0.04])
    off = measure.metric_figures(true, placed_at(box, moved, 1.1 * case.scale_m))
    assert off["translation_mm"] == pytest.approx(50.0) and off["scale_percent"] == pytest.approx(10.0)
    assert off["chamfer_whole_mm"] > right["chamfer_whole_mm"] and off["fscore_visible"] < right["fscore_visible"]
    assert measure.metric_figures(true, placed_at(box, moved, 1.0, ScaleSource.UNKNOWN)) == {}


def test_a_random_view_has_a_large_error(case, box):
    figures = measure.random_figures(case, MeshCaster(box))
    assert figures["random_iou"] < 0.95
    assert 5 < figures["random_rotation_deg"] <= 180


def test_the_sheet_has_a_row_for_every_object_with_pictures(case, truth):
    pictures = pictures_of(case, truth)
    assert len(pictures) == len(COLUMNS) and all(picture.dtype.name == "uint8" for picture in pictures)
    record = CaseRecord("train", 0, FAMILY, {"iou": 0.9}, pictures=pictures)
    sheet = contact_sheet([record, replace(record, index=1), replace(record, pictures=())])
    assert sheet.height == pytest.approx(2 * 128, abs=60) and sheet.width >= len(COLUMNS) * 128
    assert contact_sheet([replace(record, pictures=())]) is None


def records():
    good = {"iou": 0.9, "rotation_deg": 4.0, "uv_px": 2.0, "psnr": 20.0, "translation_mm": 8.0}
    poor = {"iou": 0.5, "rotation_deg": 20.0, "uv_px": 6.0, "psnr": 14.0, "translation_mm": math.nan}
    return [
        CaseRecord("train", 0, "mug", good, timings_s={"decode": 2.0}),
        CaseRecord("train", 1, "can", poor, timings_s={"decode": 1.0}),
        CaseRecord("train", 2, "mug", dict(measure.FAILURE_FIGURES), failure="structure_empty"),
        CaseRecord("held_out", 0, "lamp", good, timings_s={"decode": 3.0}),
    ]


def test_summaries_count_failures_as_the_worst():
    summary = by_split(records())["train"]
    assert (summary.count, summary.failed) == (3, 1)
    assert summary.values["iou"] == pytest.approx(1.4 / 3)
    assert summary.values["rotation_median_deg"] == 20.0
    assert summary.values["rotation_within_5"] == pytest.approx(100 / 3)
    assert summary.values["rotation_within_30"] == pytest.approx(200 / 3)
    # Not defined for what is lost: said so.
    assert summary.values["translation_median_mm"] == 8.0 and summary.counted["translation_median_mm"] == 1
    assert "chamfer_percent" not in summary.values
    assert list(by_family(records())) == ["mug", "can", "lamp"]
    assert summarize([]).values == {}


def test_tables_and_json_hold_the_figures(tmp_path):
    titles = [table.title for table in tables(records())]
    assert titles[0] == "Tabletop benchmark" and len(titles) == 3
    assert list(tables([])) == []
    read = json.loads(to_json(records(), {"checkpoint": "x"}))
    assert read["checkpoint"] == "x" and read["splits"]["train"]["values"]["psnr_db"] == pytest.approx(17.0)
    assert read["timings_s"]["decode"] == pytest.approx(2.0)
    assert "translation_mm" not in read["objects"][1]["figures"]
    write_json(records(), {}, tmp_path / "figures.json")
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]
    with pytest.raises(OutputError, match="cannot be written"):
        write_json(records(), {}, tmp_path / "figures.json" / "a-file-is-no-folder.json")


def test_impossible_options_are_refused():
    with pytest.raises(InputError, match="out of range"):
        BenchmarkOptions(samples=0)


def test_the_number_of_objects_counts_all_of_them():
    assert BenchmarkOptions(objects=8).splits() == (("train", 7), ("held_out", 1))
    assert BenchmarkOptions(objects=8, held_out=8).splits() == (("train", 0), ("held_out", 8))
    assert BenchmarkOptions(objects=8, family=FAMILY).splits() == (("train", 8),)
    with pytest.raises(InputError, match="more than 8 objects"):
        BenchmarkOptions(objects=8, held_out=50)


def test_a_journal_gives_back_what_it_was_given_and_drops_a_line_that_was_cut_off(tmp_path):
    path = tmp_path / "figures.jsonl"
    journal = RecordJournal(path, {"seed": 1})
    for record in records():
        journal.append([record])
    path.write_bytes(path.read_bytes() + b'{"split": "train", "ind')
    again = RecordJournal(path, {"seed": 1})
    assert list(again.finished) == [("train", 0), ("train", 1), ("train", 2), ("held_out", 0)]
    (found,) = again.finished["train", 0]
    assert found.figures == records()[0].figures and found.timings_s == {"decode": 2.0}
    again.append([records()[0]])
    assert len(RecordJournal(path, {"seed": 1}).finished["train", 0]) == 2
    with pytest.raises(InputError, match="seed differ"):
        RecordJournal(path, {"seed": 2})
    path.write_text("no journal\n")
    with pytest.raises(InputError, match="is no journal"):
        RecordJournal(path, {"seed": 1})
    with pytest.raises(CupidError, match="cannot be"):
        RecordJournal(path / "a-file-is-no-folder.jsonl", {})


def test_a_stopped_benchmark_continues_with_the_same_figures(tiny_cupid, tmp_path):
    options = BenchmarkOptions(
        objects=4, held_out=1, samples=1, given_structure=False, pictures=0, rank_by_voxels=True
    )
    whole = run_benchmark(tiny_cupid, options)

    measured = []

    def stop(record):
        measured.append(record)
        if len(measured) == 2:
            raise KeyboardInterrupt

    path = tmp_path / "figures.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(tiny_cupid, options, on_record=stop, journal=open_journal(path, tiny_cupid, options))
    assert len(path.read_text().splitlines()) == 1 + 2
    journal = open_journal(path, tiny_cupid, options)
    continued = run_benchmark(tiny_cupid, options, journal=journal)
    assert [(r.split, r.index) for r in continued] == [("train", 0), ("train", 1), ("train", 2), ("held_out", 0)]
    assert [r.figures for r in continued[:2]] == [
        journal.finished["train", index][0].figures for index in range(2)
    ]
    for one, other in zip(whole, continued, strict=True):
        assert one.failure == other.failure
        assert one.to_plain()["figures"] == pytest.approx(other.to_plain()["figures"])
    assert len(path.read_text().splitlines()) == 1 + 4
    with pytest.raises(InputError, match="samples differ"):
        open_journal(path, tiny_cupid, replace(options, samples=2))


def test_the_command_measures_a_checkpoint(tiny_checkpoint, tmp_path, capsys):
    settings = tmp_path / "settings.yaml"
    settings.write_text("pose: {max_noise: 0.5}\nreconstruct: {samplers: settings}\n")
    figures, sheet = tmp_path / "figures.json", tmp_path / "sheet.png"
    options = ["--checkpoint", str(tiny_checkpoint), "--without-checkpoint", str(tiny_checkpoint), "--n", "1"]
    options += ["--held-out", "0", "--samples", "2", "--steps", "2", "--appearance-steps", "2", "--rank-by-voxels"]
    options += ["--config", str(settings), "--json", str(figures), "--sheet", str(sheet), "--no-families"]
    assert main(["evaluate", "tabletop", *options]) == 0
    said = capsys.readouterr().out
    assert "silhouette IoU" in said and "Seconds per object" in said
    assert "1 of 1 objects (100 %)" in said, "without a terminal progress is shown as lines"
    assert not figures.with_suffix(".jsonl").exists()
    read = json.loads(figures.read_text())
    (one,) = read["objects"]
    assert one["failure"] == "" and {"iou", "uv_px", "psnr", "psnr_true", "random_iou"} <= one["figures"].keys()
    # The same checkpoint on the same structures from the same noise: the same figures.
    assert one["figures"]["psnr_true"] == one["figures"]["psnr_true_without"]
    assert one["figures"]["psnr"] == pytest.approx(one["figures"]["psnr_without"], abs=1e-6)
    assert sheet.read_bytes()[:4] == b"\x89PNG"


def test_a_stopped_command_shows_what_it_has_measured(tiny_checkpoint, monkeypatch, capsys):
    show = evaluate_command.ObjectBar.show

    def show_and_stop(bar, record):
        show(bar, record)
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate_command.ObjectBar, "show", show_and_stop)
    options = ["--checkpoint", str(tiny_checkpoint), "--n", "3", "--held-out", "0", "--samples", "1"]
    options += ["--steps", "1", "--appearance-steps", "1", "--rank-by-voxels", "--no-true-structure"]
    assert main(["evaluate", "tabletop", *options]) == 130
    said = capsys.readouterr()
    assert "1 of 3 objects (33 %)" in said.out and "Tabletop benchmark" in said.out and "stopped" in said.err


def test_a_missing_folder_is_reported_before_the_work(tiny_checkpoint, tmp_path, capsys):
    missing = tmp_path / "missing" / "figures.json"
    assert main(["evaluate", "tabletop", "--checkpoint", str(tiny_checkpoint), "--json", str(missing)]) == 2
    assert "missing" in capsys.readouterr().err
