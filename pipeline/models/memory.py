"""How much memory a case takes, and where it can therefore be computed."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import torch

from pipeline.core.errors import DataError
from pipeline.core.geometry import Shape3
from pipeline.models.decode import MAX_SLAB_VALUES
from pipeline.models.predictor import Predictor

ComputePath = Literal["cuda", "cuda+cpu", "cpu"]

_FLOAT = 4
# Channels of full resolution that live at once at the top of a U-Net's decoder, per feature
# channel: skip, concatenation, convolved and normalized, and the layout copies of the convolution.
_LIVE_CHANNELS_PER_FEATURE = 7
# Width at full resolution of a network by name, which is not known: twice that of nnU-Net.
_UNKNOWN_FEATURES = 64
# Copies of a slab while it is decoded, and while it is interpolated before.
_SLAB_COPIES = 2
_INTERPOLATED_SLAB_COPIES = 4
# Share of the free memory that may be planned for.
_USABLE_FRACTION = 0.9
_CGROUPS, _OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_UNLIMITED = 1 << 62
# Limit, use, and the row of memory.stat with cached files.
_FILES_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_FILES_V2 = ("memory.max", "memory.current", "inactive_file")


@dataclass(frozen=True)
class MemoryEstimate:
    """What one case needs, in bytes.

    Args:
        image: The source image and its prepared copy; in RAM.
        prepared: The prepared image alone; once more on a GPU that keeps the sums.
        network: Weights, windows and activations of one forward pass; where the network is.
        sums: Planes that windows still reach, and the slab being decoded; where the sums are.
        labels: The label map; in RAM.
    """

    image: int
    prepared: int
    network: int
    sums: int
    labels: int

    @property
    def parts(self) -> dict[str, int]:
        """Everything the processor needs, by name."""
        return {
            "image": self.image,
            "network": self.network,
            "sums": self.sums,
            "labels": self.labels,
        }

    def ram_bytes(self, path: ComputePath) -> int:
        """RAM for one case, the image included."""
        on_cpu = {"cuda": 0, "cuda+cpu": self.sums, "cpu": self.sums + self.network}
        return self.image + self.labels + on_cpu[path]

    def vram_bytes(self, path: ComputePath) -> int:
        """Memory of the GPU for one case."""
        on_gpu = {"cuda": self.prepared + self.sums + self.network, "cuda+cpu": self.network}
        return on_gpu.get(path, 0)


@dataclass(frozen=True)
class FreeMemory:
    """What is left on this machine, in bytes; None where there is no GPU."""

    ram: int
    vram: int | None = None


@dataclass(frozen=True)
class Decision:
    """Where to compute, and why."""

    path: ComputePath
    reason: str = ""

    def after_out_of_memory(self) -> "Decision":
        """The next path when the estimate was too low."""
        smaller: dict[ComputePath, ComputePath] = {"cuda": "cuda+cpu", "cuda+cpu": "cpu"}
        if self.path not in smaller:
            raise DataError(
                "memory ran out on the CPU",
                fix="close other programs, or predict on a machine with more memory",
            )
        return Decision(smaller[self.path], f"memory ran out on {self.path}")


def estimate_memory(
    predictor: Predictor, prepared: Shape3, source: Shape3, *, visited: Shape3 | None = None
) -> MemoryEstimate:
    """Estimate the memory of one case from shapes alone.

    Args:
        predictor: Networks and windows.
        prepared: Shape of the prepared image.
        source: Shape of the image as read.
        visited: Shape of the part that windows visit; None takes the whole prepared image.

    Returns:
        Bytes by purpose; benchmarks/infer_memory.py compares them with what is used.
    """
    windows, network = predictor.windows, predictor.plan.network
    n_images, n_outputs = network.n_input_channels, predictor.decoding.n_outputs
    _, n_j, n_k = (
        max(n, size) for n, size in zip(visited or prepared, windows.window, strict=True)
    )
    n_ring = windows.window[0] * n_j * n_k * (windows.n_outputs + 1)
    n_plane = max(source[1] * source[2], prepared[1] * prepared[2])
    n_slab = max(MAX_SLAB_VALUES, n_plane * predictor.decoding.n_channels)
    n_copies = _SLAB_COPIES if prepared == source else _INTERPOLATED_SLAB_COPIES
    n_features = network.features[0] if network.features else _UNKNOWN_FEATURES
    n_live = _LIVE_CHANNELS_PER_FEATURE * n_features + n_images + 2 * windows.n_outputs
    n_batch = windows.batch_size * math.prod(windows.window)
    prepared_bytes = _FLOAT * n_images * math.prod(prepared)
    return MemoryEstimate(
        image=prepared_bytes + _FLOAT * n_images * math.prod(source),
        prepared=prepared_bytes,
        network=_FLOAT * n_batch * n_live + _weight_bytes(predictor),
        sums=_FLOAT * (n_ring + n_copies * n_slab),
        labels=math.prod(source) * (1 if n_outputs <= 256 else 2),
    )


def choose_path(
    estimate: MemoryEstimate, free: FreeMemory, device: torch.device, *, n_held_bytes: int = 0
) -> Decision:
    """Take the fastest path that fits.

    Args:
        estimate: From `estimate_memory`.
        free: From `free_memory`.
        device: Where the networks are.
        n_held_bytes: Part of the estimate that is in RAM already, such as the image.

    Returns:
        The path, and why it is not the first choice.

    Raises:
        DataError: If no path fits.
    """
    paths: tuple[ComputePath, ...] = ("cpu",)
    if device.type == "cuda":
        paths = ("cuda", "cuda+cpu", "cpu")
    refusals = []
    for path in paths:
        ram, vram = estimate.ram_bytes(path) - n_held_bytes, estimate.vram_bytes(path)
        if vram > _USABLE_FRACTION * (free.vram or 0):
            refusals.append(f"{path} needs {_gb(vram)} GPU memory, {_gb(free.vram or 0)} are free")
        elif ram > _USABLE_FRACTION * free.ram:
            refusals.append(f"{path} needs {_gb(ram)} RAM, {_gb(free.ram)} are free")
        else:
            return Decision(path, "; ".join(refusals))
    parts = ", ".join(f"{name} {_gb(n)}" for name, n in estimate.parts.items())
    raise DataError(
        f"this case does not fit into memory: {'; '.join(refusals)} ({parts})",
        fix="close other programs, set infer.window_batch=1, or use a machine with more memory",
    )


def free_memory(device: torch.device) -> FreeMemory:
    """What this process may still use, also inside a container or a job of a cluster.

    Args:
        device: Where the networks are.

    Returns:
        Free RAM, and free memory of that GPU.
    """
    ram = min(psutil.virtual_memory().available, memory_left_to_job())
    if device.type != "cuda":
        return FreeMemory(ram)
    free, _ = torch.cuda.mem_get_info(device)
    # What torch holds without using it is free to us.
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return FreeMemory(ram, free + held)


def memory_left_to_job(groups: Path = _CGROUPS, own: Path = _OWN_CGROUP) -> int:
    """Memory within the limits of a container or of a cluster's job.

    Args:
        groups: Where Linux shows control groups, of version 1 or 2.
        own: Names the groups of this process.

    Returns:
        Bytes left to the tightest group; very many where there is no limit.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return _UNLIMITED
    left = [_UNLIMITED]
    for line in lines:
        _, controllers, name = line.split(":", maxsplit=2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, files = (groups / "memory", _FILES_V1) if controllers else (groups, _FILES_V2)
        own_group = top / name.lstrip("/")
        # The limit may stand at any group around: those up to the top count as well.
        around = [g for g in (own_group, *own_group.parents) if g.is_relative_to(top)]
        left += [_group_bytes(group, *files) for group in around]
    return min(left)


def _group_bytes(group: Path, limit_file: str, usage_file: str, cached: str) -> int:
    try:
        limit = (group / limit_file).read_text().strip()
        used = int((group / usage_file).read_text())
        # Cached files count as used there, but are given back when memory is asked for.
        rows = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return _UNLIMITED
    if limit == "max":
        return _UNLIMITED
    return max(0, int(limit) - used + int(rows.get(cached, 0)))


def _weight_bytes(predictor: Predictor) -> int:
    return sum(
        p.numel() * p.element_size()
        for network in predictor.networks
        if isinstance(network, torch.nn.Module)
        for p in network.parameters()
    )


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"
