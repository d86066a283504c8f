import pytest
import torch

from umbel.errors import BackendError
from umbel.ops.devices import autocast_dtype, resolve_device


def test_devices_that_are_not_here_are_refused():
    with pytest.raises(BackendError, match="no such device; use auto, cpu, cuda or cuda:N"):
        resolve_device("tpu9")
    with pytest.raises(BackendError, match=r"--device cuda:99: this machine shows \d+ CUDA devices; use cpu"):
        resolve_device("cuda:99")


def test_autocast_is_off_on_a_cpu_unless_asked_for():
    cpu = torch.device("cpu")
    assert autocast_dtype(cpu, "auto") is None
    assert autocast_dtype(cpu, "off") is None
    assert autocast_dtype(cpu, "bf16") is torch.bfloat16
