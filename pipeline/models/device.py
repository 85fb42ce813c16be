"""Where torch computes."""

import os
from typing import Literal

import torch

from pipeline.core.errors import UsageError
from pipeline.core.parallel import available_cores

DeviceName = Literal["auto", "cpu", "cuda"]

# What torch's allocator for the CPU, and libraries on a full GPU, say in a plain RuntimeError. The
# last one also stands for a convolution that does not exist; every use takes a smaller step once.
_MESSAGES = (
    *("not enough memory", "can't allocate memory", "cannot allocate memory"),
    *("cudnn_status_alloc_failed", "cublas_status_alloc_failed"),
    "unable to find an engine to execute this computation",
)


def choose_device(name: DeviceName) -> torch.device:
    """Resolve "auto"; refuse a GPU that is not there.

    Args:
        name: What the user asked for; "auto" takes a GPU when there is one.

    Returns:
        The device.

    Raises:
        UsageError: If "cuda" is asked for and no usable GPU exists.
    """
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise UsageError(
            "no CUDA GPU is usable here",
            where="device",
            fix="use --device cpu, or install a CUDA build of torch",
        )
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")


def use_all_cores() -> None:
    """Let torch compute on every core of this process, unless OMP_NUM_THREADS says otherwise.

    Processes that torchrun started share the cores. It sets OMP_NUM_THREADS to 1 for each of
    several where the user has not, which leaves cores idle; a 1 is taken for its own.
    """
    n_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    chosen = os.environ.get("OMP_NUM_THREADS")
    if chosen is None or (chosen == "1" and n_processes > 1):
        torch.set_num_threads(max(1, available_cores() // n_processes))


def mixed_precision_dtype(device: torch.device) -> torch.dtype | None:
    """Number format of convolutions in mixed precision.

    Args:
        device: Where to train.

    Returns:
        bfloat16 where the device computes with it; else float16 on a GPU, None on a CPU: there,
        emulated, it is slower than float32.
    """
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bfloat16 else torch.float16
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else None


def number_format(device: torch.device, *, is_mixed: bool) -> str:
    """Name of the number format that a training computes its convolutions in.

    Args:
        device: Where to train.
        is_mixed: Whether mixed precision is wanted.

    Returns:
        "float32", "bfloat16" or "float16".
    """
    dtype = mixed_precision_dtype(device) if is_mixed else None
    return str(dtype or torch.float32).removeprefix("torch.")


def set_arithmetic(device: torch.device, *, is_deterministic: bool, is_mixed: bool) -> None:
    """Let the same step give the same bits: always on a CPU, on a GPU when asked for.

    On a GPU it costs speed, and torch refuses the few operations it has no such form of. Call it
    before anything is computed: matrix products read their setting once.

    Args:
        device: Where to train.
        is_deterministic: Also on a GPU.
        is_mixed: Whether mixed precision is wanted; without it convolutions on a GPU keep all bits
            of float32, which they do not by default.
    """
    is_wanted = is_deterministic or device.type == "cpu"
    torch.use_deterministic_algorithms(is_wanted)
    if is_wanted and device.type == "cuda":
        # Read when the first matrix is multiplied; without it torch refuses to multiply at all.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Tries algorithms and takes the fastest, which may be another one the next time.
    torch.backends.cudnn.benchmark = device.type == "cuda" and not is_wanted
    torch.backends.cudnn.allow_tf32 = is_mixed
    # Determinism does not need it, and it would write every new tensor twice.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device or the RAM is full.

    Args:
        error: What a step raised.

    Returns:
        True for torch's and Python's own errors of that kind.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(said in text for said in _MESSAGES)
