"""Choosing a device by name, and the precision of networks on it."""

import pytest
import torch

from cupid_core.errors import ConfigError
from cupid_core.runtime.device import choose_device, inference_dtype


def test_auto_takes_a_gpu_where_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["toaster", "", "meta", "cuda:99", "cpu:x"])
def test_other_names_and_absent_gpus_are_refused_with_a_hint(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_device(name)
    assert "auto" in caught.value.hint and name in caught.value.problem


def test_networks_run_in_float32_on_a_cpu_and_in_half_the_bits_on_a_gpu() -> None:
    assert inference_dtype(torch.device("cpu")) == torch.float32
    if torch.cuda.is_available():
        assert inference_dtype(torch.device("cuda")) in (torch.bfloat16, torch.float16)
