"""The loop: resuming is exact whatever stopped the run; Ctrl-C and the time limit save; states are whole."""

import csv
import os
import signal
import threading
import time

import pytest
import torch
from tiny_stages import encoder_stage, run_settings, structure_stage, vae_stage

from cupid_core.config import to_yaml
from cupid_core.errors import OutputError, TrainingError
from cupid_core.training import run_folder
from cupid_core.training.loop import LoopOptions, batch_generator, train
from cupid_core.training.run_folder import STATE, changed_settings, exclusive, load_state, save_state
from cupid_core.training.run_settings import RunSettings
from cupid_core.training.settings import TrainConfig
from cupid_core.training.structure_settings import StructureVaeSettings

STEPS = 12


def _state(folder, stage):
    return load_state(folder / STATE, stage)


def _interrupt_at(step):
    """Send this process the signal of Ctrl-C when the loop reports a step."""

    def watch(news):
        if news.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    return watch


def _same(left, right):
    assert left.keys() == right.keys()
    for name, value in left.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, right[name]), name
        elif isinstance(value, dict):
            _same(value, right[name])
        else:
            assert value == right[name] or isinstance(value, list), name


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("name", "kind"), [("structure", "adamw"), ("structure", "muon"), ("image-encoder", "muon")]
)
def test_an_interrupted_run_equals_an_uninterrupted_one_bit_for_bit(root, precision, name, kind):
    def new_stage():
        return {"structure": structure_stage, "image-encoder": encoder_stage}[name](root, run, fixed=False)

    run = run_settings(
        STEPS,
        precision=precision,
        batch_size=4,
        accumulate=2,
        log_every=1,
        optimizer={"kind": kind, "muon_convolutions": True, "clip_history": 4},
    )
    train(new_stage(), run, LoopOptions(root / "whole", seed=3))
    for stop in (5, 8):
        stage = new_stage()
        result = train(stage, run, LoopOptions(root / "parts", seed=3, resume=stop > 5), _interrupt_at(stop))
        assert (result.reason, result.step) == ("signal", stop)
        assert stage._source.closed
    result = train(new_stage(), run, LoopOptions(root / "parts", seed=3, resume=True))
    assert (result.reason, result.step, result.images) == ("finished", STEPS, STEPS * 4 * 2)
    whole, parts = _state(root / "whole", name), _state(root / "parts", name)
    _same(dict(whole.masters), dict(parts.masters))
    _same(dict(whole.average), dict(parts.average))
    _same(whole.optimizer, parts.optimizer)
    whole_rows, parts_rows = (
        [
            {column: value for column, value in row.items() if column not in ("images_per_s", "seconds")}
            for row in csv.DictReader((root / folder / "losses.csv").open())
        ]
        for folder in ("whole", "parts")
    )
    assert whole_rows == parts_rows and len(whole_rows) == STEPS


def test_other_seeds_make_other_weights(root):
    run = run_settings(3, batch_size=4)
    for seed in (0, 1):
        train(vae_stage("uv", root, run), run, LoopOptions(root / str(seed), seed=seed))
    one, other = (_state(root / str(seed), "uv-vae").masters for seed in (0, 1))
    assert not torch.equal(one["encoder.input_layer.weight"], other["encoder.input_layer.weight"])


def test_generators_differ_between_numbers_and_seeds():
    first = {
        float(torch.rand(1, generator=batch_generator(seed, number))) for seed in range(20) for number in range(50)
    }
    assert len(first) > 990


def test_the_time_limit_stops_in_time_and_saves(root):
    run = run_settings(100_000, batch_size=4)
    before = time.monotonic()
    result = train(vae_stage("uv", root, run), run, LoopOptions(root / "run", time_limit_s=8.0))
    assert result.reason == "time"
    assert 0 < result.step < 100_000
    assert time.monotonic() - before < 8.0
    assert _state(root / "run", "uv-vae").step == result.step


def test_two_runs_in_one_folder_are_refused(root):
    run = run_settings(2, batch_size=4)
    stage = vae_stage("uv", root, run)
    with exclusive(root / "run"), pytest.raises(TrainingError, match="Another process"):
        train(stage, run, LoopOptions(root / "run"))
    assert stage._source.closed
    train(vae_stage("uv", root, run), run, LoopOptions(root / "run"))


def test_a_run_in_another_thread_needs_no_signals(root):
    run = run_settings(2, batch_size=4)
    results = []
    thread = threading.Thread(
        target=lambda: results.append(train(vae_stage("uv", root, run), run, LoopOptions(root / "run")))
    )
    thread.start()
    thread.join()
    assert results[0].reason == "finished"


def test_prefetched_batches_make_the_same_weights(root):
    for ahead in (0, 3):
        run = run_settings(4, batch_size=4, prefetch=ahead)
        train(vae_stage("uv", root, run, fixed=False), run, LoopOptions(root / str(ahead)))
    one, other = (_state(root / str(ahead), "uv-vae").masters for ahead in (0, 3))
    _same(dict(one), dict(other))


def test_averaged_weights_are_only_borrowed(root):
    weights = []
    run = run_settings(4, batch_size=4, validate_every=2, sheet_every=2)
    plain = run_settings(4, batch_size=4)
    for settings in (run, plain):
        folder = root / str(len(weights))
        train(vae_stage("occupancy", root, settings), settings, LoopOptions(folder))
        weights.append(dict(_state(folder, "occupancy-vae").masters))
    _same(*weights)
    assert len(list((root / "0" / "sheets").iterdir())) == 2
    assert len(list(csv.DictReader((root / "0" / "validation.csv").open()))) == 2


def test_a_state_of_another_stage_or_shape_or_seed_is_refused(root):
    run = run_settings(2, batch_size=4)
    train(vae_stage("uv", root, run), run, LoopOptions(root / "run"))
    with pytest.raises(TrainingError, match="not a state of 'occupancy-vae'"):
        train(vae_stage("occupancy", root, run), run, LoopOptions(root / "run", resume=True))
    with pytest.raises(TrainingError, match="seed"):
        train(vae_stage("uv", root, run), run, LoopOptions(root / "run", seed=1, resume=True))
    with pytest.raises(TrainingError, match=r"no .* to resume"):
        train(vae_stage("uv", root, run), run, LoopOptions(root / "nowhere", resume=True))
    state = _state(root / "run", "uv-vae")
    masters = {**state.masters, "encoder.input_layer.bias": torch.zeros(3)}
    save_state(run_folder.TrainingState(**{**vars(state), "masters": masters}), root / "run" / STATE)
    with pytest.raises(TrainingError, match="1 weights differ"):
        train(vae_stage("uv", root, run), run, LoopOptions(root / "run", resume=True))


def test_changed_settings_are_refused_unless_accepted(root):
    run = run_settings(2, batch_size=4)
    was = to_yaml(TrainConfig())
    train(vae_stage("uv", root, run), run, LoopOptions(root / "run", settings=was))

    def resume(settings, **more):
        options = LoopOptions(root / "run", resume=True, settings=settings, **more)
        return train(vae_stage("uv", root, run), run, options)

    other = TrainConfig(uv_vae=StructureVaeSettings(latent_noise_high=0.5), data="assets")
    with pytest.raises(TrainingError, match=r"data: tabletop -> assets; uv_vae.latent_noise_high: 0.2 -> 0.5"):
        resume(to_yaml(other))
    assert resume(to_yaml(other), accept_changes=True).step == 2
    assert resume("", accept_changes=False).step == 2


def test_settings_that_change_nothing_a_step_learns_are_free():
    longer = TrainConfig(
        uv_vae=StructureVaeSettings(
            run=RunSettings(steps=9000, validate_every=7, batch_size=5), validation_views=3
        ),
        occupancy_vae=StructureVaeSettings(latent_noise_high=0.5),
        workers=5,
    )
    changed = changed_settings(to_yaml(TrainConfig()), to_yaml(longer), "uv-vae")
    assert changed == ["uv_vae.run.batch_size: 32 -> 5"]


def test_the_settings_of_today_move_the_weights_of_a_resumed_run(root):
    run = run_settings(2, batch_size=4)
    train(vae_stage("uv", root, run), run, LoopOptions(root / "run"))
    other = run_settings(4, batch_size=4, optimizer={"beta2": 0.5, "weight_decay": 0.3})
    train(vae_stage("uv", root, other), other, LoopOptions(root / "run", resume=True))
    groups = _state(root / "run", "uv-vae").optimizer["adamw"]["param_groups"]
    assert [group["betas"][1] for group in groups] == [0.5, 0.5]
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]


def test_the_time_limit_counts_from_the_beginning_of_the_command_and_spares_time_to_finish(root):
    run = run_settings(100_000, batch_size=4, spare_seconds=5.0)
    options = LoopOptions(root / "run", time_limit_s=30.0, began=time.monotonic() - 25.5)
    result = train(vae_stage("uv", root, run), run, options)
    assert (result.reason, result.step) == ("time", 1)


def test_a_state_with_the_former_spelling_of_a_key_is_read(root):
    run = run_settings(2, batch_size=4)
    train(vae_stage("uv", root, run), run, LoopOptions(root / "run"))
    path = root / "run" / STATE
    values = torch.load(path, weights_only=True)
    values["optimiser"] = values.pop("optimizer")
    torch.save(values, path)
    longer = run_settings(3, batch_size=4)
    assert train(vae_stage("uv", root, longer), longer, LoopOptions(root / "run", resume=True)).step == 3


def test_a_damaged_state_is_refused_and_a_failed_save_keeps_the_old(root, monkeypatch):
    run = run_settings(2, batch_size=4)
    train(vae_stage("uv", root, run), run, LoopOptions(root / "run"))
    path = root / "run" / STATE
    good = path.read_bytes()

    def fail_half_way(values, stream):
        stream.write(good[: len(good) // 2])
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run_folder.torch, "save", fail_half_way)
        with pytest.raises(OutputError, match="no space"):
            save_state(_state(root / "run", "uv-vae"), path)
    assert path.read_bytes() == good
    assert [item.name for item in path.parent.iterdir() if "state" in item.name] == [STATE]
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(TrainingError, match="damaged"):
        load_state(path, "uv-vae")
