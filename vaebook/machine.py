"""What this machine can do, and what makes it train quickly; :mod:`vaebook.train` asks for both."""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch


def pick_device(name: str = "auto") -> torch.device:
    """The device to train on.

    Args:
        name: any device that torch knows; "auto" takes the machine's accelerator, or else the CPU.

    Raises:
        ValueError: this machine has no such device.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter from a torch that was built without CUDA
        present = ", ".join(["cpu", *([accelerator.type] if accelerator else [])])
        raise ValueError(f"cannot use device {name!r}; this machine has: {present}") from error
    return device


@cache
def has_fast_bfloat16(device: str) -> bool:
    """Whether a type of device multiplies bfloat16 in hardware; elsewhere it is far slower than float32.

    Args:
        device: such as "cpu" or "cuda".
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return (
        device == "cpu"
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.cpu._is_avx512_bf16_supported()
    )


@cache
def keep_freed_memory() -> bool:
    """Let this process keep the memory that a step frees for the next one, up to a gibibyte.

    Left alone, glibc gives large tensors back to the system as soon as they are freed, and the next step
    waits for fresh pages again: a sixth of the time of a convolutional network.

    Returns:
        Whether it could be done; only glibc, the C library of most Linux systems, takes such advice.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    trim_threshold, mmap_threshold = -1, -3  # numbers from malloc.h
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(mmap_threshold, 2**28) and mallopt(trim_threshold, 2**30))


@contextmanager
def subnormals_are_zero() -> Iterator[None]:
    """Inside, what is nearer to zero than a normal float32, 1.2e-38, counts as zero, in all threads.

    Adam's average of a gradient that stays zero, as for a pixel that is black in one batch after another,
    falls by a tenth in each step and passes that limit after some 800. From then on it costs an Intel
    processor, each time, as much as dozens of other numbers, which are more than half of the time of Adam.
    """
    if _subnormals_are_zero():
        yield
        return
    _set_subnormals_to_zero(True)
    try:
        yield
    finally:
        _set_subnormals_to_zero(False)


def _subnormals_are_zero() -> bool:
    return bool(torch.tensor(torch.finfo(torch.float32).tiny) / 2 == 0)


def _set_subnormals_to_zero(on: bool) -> None:
    """For this thread, and for those that share its work."""
    torch.set_flush_denormal(on)
    if torch.get_num_threads() > 1 and os.name == "posix":
        pause_hard = 2  # a number from omp.h
        end_threads = getattr(ctypes.CDLL(None), "omp_pause_resource_all", None)
        if end_threads:
            end_threads(pause_hard)  # new ones start when there is work, with the settings of this one
