"""The published crop against the golden numbers, and how far the exact crop is from it."""

import torch

from cupid_core.image.crop import crop_to_content, network_input, reference_crop_to_content


def test_reference_crop_equals_the_reference(fixtures, agree):
    tensors, meta = fixtures("crop")
    for case in (entry["case"] for entry in meta["cases"]):
        crop = reference_crop_to_content(tensors[f"{case}.rgba"].numpy())
        numbers = torch.tensor([crop.scale, crop.offset_x, crop.offset_y], dtype=torch.float64)
        agree(f"{case} parameters", numbers, tensors[f"{case}.crop_params"], meta["tolerance"]["crop_params"])
        agree(f"{case} pixels", torch.from_numpy(crop.rgba), tensors[f"{case}.crop_rgba"])
        K = crop.uncrop_intrinsics(tensors[f"{case}.K_crop"])
        agree(f"{case} K", K, tensors[f"{case}.K_decrop"], meta["tolerance"]["K"])
        for size in (56, 32):
            agree(f"{case} {size}", network_input(crop.rgba, size), tensors[f"{case}.tensor_{size}"], 1 / 255)


def test_exact_crop_differs_by_no_more_than_the_known_inaccuracies(fixtures):
    tensors, meta = fixtures("crop")
    for entry in meta["cases"]:
        crop = crop_to_content(tensors[f"{entry['case']}.rgba"].numpy())
        # Its box counts the last pixel (1.2 more pixels) and rounds instead of cutting one side off.
        assert 0 <= crop.side - entry["true_crop_width_px"] <= 3
