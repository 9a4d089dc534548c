import contextlib
import os
import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from vaebook import machine, train


def test_devices_are_picked_by_name():
    assert machine.pick_device("cpu") == torch.device("cpu")
    expected = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    assert machine.pick_device() == expected


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "xla:zero"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(ValueError, match=f"cannot use device '{name}'; this machine has: cpu"):
        machine.pick_device(name)


PAGE_FAULTS = """
import resource, torch
from vaebook import train

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

train.fit(lambda x: {"loss": x.mean()}, [torch.ones(4)], epochs=1)
print(*[faults() for _ in range(5)])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators take no such advice")
def test_a_training_keeps_the_memory_that_a_step_frees():
    ran = subprocess.run([sys.executable, "-c", PAGE_FAULTS], capture_output=True, text=True, check=True)
    first, *_, last = map(int, ran.stdout.split())
    assert last <= first / 10  # without it, as many: one for each page


def test_other_allocators_are_left_alone(monkeypatch):
    monkeypatch.setattr(machine.platform, "libc_ver", lambda: ("", ""))
    assert machine.keep_freed_memory.__wrapped__() is False


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def share_of_zeros(numbers: int = 400_000) -> float:
    """Of halves of the smallest normal number; by default so many that all threads share the work."""
    return float((torch.full((numbers,), torch.finfo(torch.float32).tiny) / 2 == 0).float().mean())


@pytest.mark.skipif(os.name != "posix", reason="elsewhere only the thread that trains is told")
def test_a_training_takes_subnormal_numbers_for_zero_in_all_threads_and_leaves_them_as_they_were(threads):
    assert share_of_zeros() == 0
    history = train.fit(lambda x: {"zeros": torch.tensor(share_of_zeros())}, [torch.ones(4)], 1)
    assert history["zeros"].item() == 1
    assert share_of_zeros() == 0
    assert torch.get_num_threads() == threads


def test_they_are_as_they_were_behind_an_error_and_where_they_were_zero_before():
    with pytest.raises(FloatingPointError):
        train.fit(lambda x: {"loss": x.mean()}, [torch.full((4,), torch.inf)], 1)
    assert share_of_zeros() == 0
    torch.set_flush_denormal(True)
    try:
        with machine.subnormals_are_zero():
            assert share_of_zeros(1) == 1
        assert share_of_zeros(1) == 1
    finally:
        torch.set_flush_denormal(False)


def test_they_leave_no_trace_in_the_weights(monkeypatch):
    def weights():
        torch.manual_seed(0)
        model = nn.Linear(50, 1)
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        step = train.gradient_step(lambda x: {"loss": model(x).square().mean()}, optimizer)
        x = torch.randn(1000, 8, 50)
        x[1:, :, 25:] = 0  # seen in the first batch only
        train.fit(step, list(x), epochs=1)
        means = optimizer.state[model.weight]["exp_avg"].abs()
        return model.weight.detach(), int(((means > 0) & (means < torch.finfo(means.dtype).tiny)).sum())

    faster, none = weights()
    monkeypatch.setattr(machine, "subnormals_are_zero", contextlib.nullcontext)
    slower, some = weights()
    assert (none, some) == (0, 25)
    assert torch.equal(faster, slower)
