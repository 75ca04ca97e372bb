"""Training targets, losses, schedule, mismatches and dilation against the golden numbers."""

import torch

from cupid_core.config import FlowTrainingConfig, LearningRateConfig, StructureVaeLossConfig
from cupid_core.data.voxel_dilation import dilate_voxels
from cupid_core.training.fine_tune import fit_state
from cupid_core.training.flow import draw_times, flow_sample
from cupid_core.training.losses import UvTarget, occupancy_vae_loss, uv_vae_loss
from cupid_core.training.schedule import learning_rate

REGIONS = {"ssuv": "flag", "ss": "occupied", "full": "all"}
# The golden numbers do not say from which weight on neighbors were kept; these give the same voxels.
MIN_WEIGHT = {0.5: 0.05, 1.0: 0.2}


def test_flow_samples_equal_the_reference(fixtures, agree):
    tensors, meta = fixtures("training")
    dense = flow_sample(tensors["fm.x0"], tensors["fm.noise"], tensors["fm.t"])
    agree("dense x_t", dense.x_t, tensors["fm.x_t"], meta["tolerance"])
    agree("dense velocity", dense.target, tensors["fm.v"], meta["tolerance"])
    item = tensors["fm_sparse.coords"][:, 0]
    rows = flow_sample(tensors["fm_sparse.x0"], tensors["fm_sparse.noise"], tensors["fm.t"], item)
    agree("rows x_t", rows.x_t, tensors["fm_sparse.x_t"], meta["tolerance"])
    agree("rows velocity", rows.target, tensors["fm_sparse.v"], meta["tolerance"])


def test_times_equal_the_reference(fixtures, agree):
    tensors, meta = fixtures("training")
    times = draw_times(16, FlowTrainingConfig(), torch.Generator().manual_seed(0))
    agree("times", times, tensors["fm.t_samples_seed0"], meta["tolerance"])


def test_structure_losses_equal_the_reference(fixtures, agree):
    tensors, meta = fixtures("training")
    logits, posterior = tensors["uv.logits"], (tensors["uv.mean"], tensors["uv.logvar"])
    target = UvTarget(tensors["uv.ssuv"], tensors["uv.uv_volume"], tensors["uv.ss"])
    for row in meta["loss_rows"]:
        if row.get("trainer") == "ss_vae":
            loss = occupancy_vae_loss(logits[:, :1], target.occupancy, *posterior, StructureVaeLossConfig())
            parts = {"loss": loss.total, "dice": loss.classification, "kl": loss.kl}
        else:
            kinds = {"classification": row["classification"], "regression": row["regression"]}
            config = StructureVaeLossConfig(**kinds, region=REGIONS[row["mask"]])
            loss = uv_vae_loss(logits, target, *posterior, config)
            parts = {"loss": loss.total, f"ssuv_{row['classification']}": loss.classification, "kl": loss.kl}
            parts[f"uv_volume_{row['regression']}"] = loss.regression
        label = " ".join(
            str(row[key]) for key in ("trainer", "classification", "regression", "mask") if key in row
        )
        expected = torch.tensor([row[name] for name in parts])
        agree(label, torch.stack(list(parts.values())), expected, meta["tolerance"])


def test_learning_rates_equal_the_reference(fixtures, agree):
    tensors, meta = fixtures("training")
    lr = meta["lr"]
    config = LearningRateConfig(
        base=lr["base_lr"],
        warmup_steps=lr["warmup_steps"],
        max_steps=lr["max_steps"],
        initial=lr["initial_lr"],
        final=lr["end_lr"],
    )
    rates = torch.tensor([learning_rate(step, config) for step in range(1, 21)], dtype=torch.float64)
    # The stated tolerance is larger than the rates themselves.
    agree("learning rates", rates, tensors["lr_cosine_warmup5_max20"], 1e-12)


def test_mismatched_tensors_equal_the_reference(fixtures, agree):
    tensors, _ = fixtures("training")
    checkpoint, fresh = {"w": tensors["mismatch.ckpt"]}, {"w": tensors["mismatch.model"]}
    agree("partial", fit_state(checkpoint, fresh, "partial").state["w"], tensors["mismatch.partial"])
    # New outputs differ on purpose: the reference zeroes them, which can freeze a branch (see training.fine_tune).
    rows = len(checkpoint["w"])
    zeropad = fit_state(checkpoint, fresh, "zeropad").state["w"]
    agree("zeropad", zeropad[:rows], tensors["mismatch.zeropad"][:rows])
    agree("skip", fit_state(checkpoint, fresh, "skip").state["w"], tensors["mismatch.model"])


def test_dilation_equals_the_reference(fixtures, agree):
    tensors, meta = fixtures("training")
    for sigma, min_weight in MIN_WEIGHT.items():
        coords, weights = dilate_voxels(tensors["dilate.in"], 16, sigma, min_weight)
        agree(f"sigma {sigma} voxels", coords, tensors[f"dilate_{sigma}.coords"])
        agree(f"sigma {sigma} weights", weights, tensors[f"dilate_{sigma}.weights"], meta["tolerance"])
