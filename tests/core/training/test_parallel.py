"""Two processes that average their gradients train the same weights as one that accumulates the same batches."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_stages import run_settings, vae_stage

from cupid_core.errors import MissingPackageError
from cupid_core.training.loop import LoopOptions, train
from cupid_core.training.parallel import Accelerated, Alone
from cupid_core.training.run_folder import STATE, load_state

SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from tiny_stages import run_settings, vae_stage
from cupid_core.training.loop import LoopOptions, train
from cupid_core.training.parallel import Accelerated
root = Path(sys.argv[2])
run = run_settings(3, batch_size=4)
stage, parallel = vae_stage("uv", root, run, fixed=False), Accelerated()
result = train(stage, run, LoopOptions(root / "run", time_limit_s=100), None, parallel)
values = {name: value.detach() for name, value in stage.networks.state_dict().items()}
torch.save(values, root / f"{parallel.rank}.pt")
"""


def test_two_processes_equal_one_that_accumulates(root, tmp_path):
    pytest.importorskip("accelerate", reason="needs the package accelerate")
    root.mkdir()
    script = tmp_path / "two.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29517"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, str(script), str(Path(__file__).parent), str(root)], check=True, env=environment, timeout=100
    )
    run = run_settings(3, batch_size=4, accumulate=2)
    train(vae_stage("uv", root, run, fixed=False), run, LoopOptions(root / "one"))
    two, one = (load_state(root / name / STATE, "uv-vae") for name in ("run", "one"))
    other = torch.load(root / "1.pt", weights_only=True)
    assert two.images == one.images == 3 * 8
    for name, value in one.masters.items():
        torch.testing.assert_close(two.masters[name], value, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(other[name], two.masters[name])


def test_alone_leaves_everything_as_it_is():
    values = [torch.ones(3)]
    Alone().average(values)
    assert values[0].tolist() == [1.0] * 3
    assert Alone().any(True) and not Alone().any(False)


def test_without_the_package_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(MissingPackageError, match="pip install accelerate"):
        Accelerated()
