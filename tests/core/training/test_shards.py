"""Shards: whole or absent, the same whoever makes them; damaged ones are reported and skipped."""

import logging
import time
from dataclasses import dataclass

import pytest
import torch

from cupid_core.errors import DatasetError, OutputError, TrainingError
from cupid_core.training.shards import OutOfTimeError, ShardStore, read_shard, write_shard


@dataclass(frozen=True)
class CountingRecipe:
    """Shard i holds i; `fails_at` cannot be made."""

    fails_at: int = -1
    name: str = "counting"

    def describe(self) -> str:
        return "counting"

    def make(self, index: int) -> dict[str, torch.Tensor]:
        if index == self.fails_at:
            raise RuntimeError("cannot be made")
        return {
            "value": torch.full((1000,), float(index)),
            "bits": torch.arange(256).to(torch.uint8),
            "half": torch.full((3, 2), float(index), dtype=torch.float16),
            "empty": torch.zeros(0, 3),
        }


def test_what_is_written_is_read(tmp_path):
    made = CountingRecipe().make(7)
    write_shard(tmp_path / "a" / "000007.safetensors", made)
    read = read_shard(tmp_path / "a" / "000007.safetensors")
    assert read.keys() == made.keys()
    for name, tensor in made.items():
        assert torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "noise"])
def test_a_damaged_shard_is_reported_once_and_the_next_one_taken(tmp_path, caplog, damage):
    store = ShardStore(tmp_path, CountingRecipe())
    for index in range(3):
        assert float(store.read(index)["value"][0]) == index
    path = store.path(1)
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[-5] ^= 1
    broken = {"truncated": content[:-10], "flipped": content, "empty": b"", "noise": b"x" * 100}[damage]
    path.unlink()
    path.write_bytes(bytes(broken))
    fresh = ShardStore(tmp_path, CountingRecipe())
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert fresh.read(1) is None
            assert float(fresh.read_next_good(1, 3)["value"][0]) == 2
    assert [path.name in record.getMessage() for record in caplog.records] == [True]


def test_when_all_are_damaged_there_is_an_error(tmp_path):
    store = ShardStore(tmp_path, CountingRecipe())
    store.folder.mkdir(exist_ok=True)
    for index in range(2):
        store.path(index).write_bytes(b"")
    with pytest.raises(DatasetError, match="All 2 shards"):
        store.read_next_good(0, 2)


def test_workers_make_the_same_shards_and_stop(tmp_path):
    alone, helped = (
        ShardStore(tmp_path / "a", CountingRecipe()),
        ShardStore(tmp_path / "b", CountingRecipe(), workers=2),
    )
    helped.request(4)
    for index in range(4):
        expected, made = alone.read(index), helped.read(index)
        assert all(torch.equal(made[name], expected[name]) for name in expected)
    workers = helped._workers
    helped.close()
    assert not any(worker.is_alive() for worker in workers)
    assert not list(helped.folder.glob(".*")), "nothing half-written stays"


def test_a_worker_that_ends_is_an_error_not_a_wait(tmp_path, capfd):
    store = ShardStore(tmp_path, CountingRecipe(fails_at=0), workers=1)
    with pytest.raises(TrainingError, match="shard 0 ended with code 1"):
        store.read(0)
    store.close()


@dataclass(frozen=True)
class SlowRecipe(CountingRecipe):
    """Shards that take half a minute."""

    def make(self, index: int) -> dict[str, torch.Tensor]:
        time.sleep(30.0)
        return super().make(index)


@pytest.mark.parametrize("workers", [0, 1])
def test_waiting_for_a_shard_ends_at_the_deadline(tmp_path, workers):
    began = time.monotonic()
    limit = 2.0 if workers else -1.0
    store = ShardStore(tmp_path, SlowRecipe(), workers, deadline=began + limit)
    with pytest.raises(OutOfTimeError, match="shard 0"):
        store.read(0)
    store.close()
    assert time.monotonic() - began < 20.0
    # What is there is read after the deadline, too.
    write_shard(store.path(1), CountingRecipe().make(1))
    assert store.read(1)["value"][0] == 1


def test_an_unwritable_folder_is_an_error(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError):
        write_shard(blocked / "000000.safetensors", {"value": torch.zeros(1)})
