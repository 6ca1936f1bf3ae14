"""The device: versions, driver, memory, and the rates of matrix products in float32, TF32 and float64."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median

from autodiff import arrays
from autodiff.arrays import Array, namespace
from validation.gpu_campaign import part
from validation.work import machine

SIDE = {"cupy": 4096, "numpy": 2048}
"""Of the matrices multiplied."""
PRODUCTS, ENOUGH = 10, 0.5
"""How many products are timed, and after how many seconds no other is begun."""
QUERY = "name,driver_version,memory.total,memory.used,clocks.max.sm,power.limit"
"""What `nvidia-smi` is asked for."""


def name(backend: str) -> str:
    """The device's name, as "NVIDIA H100 80GB HBM3"; "NumPy" for NumPy. ValueError where there is no device."""
    arrays.backend(backend)
    if backend == "numpy":
        return "NumPy"
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    return properties["name"].decode()


def rate(like: Array, side: int) -> float:
    """FLOP/s of the product of two matrices of `side` rows and columns, by the median of the products timed."""
    a, b = (arrays.uniform((0, i), (side, side), like) for i in range(2))
    multiply = namespace(a).matmul
    multiply(a, b)
    seconds: list[float] = []
    while len(seconds) < PRODUCTS and sum(seconds) < ENOUGH:
        arrays.wait(a)
        start = time.perf_counter()
        multiply(a, b)
        arrays.wait(a)
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / median(seconds)


def describe_gpu() -> bool:
    """Print what CuPy and the driver say of themselves and of the device."""
    import cupy
    import cupyx

    print(cupyx.get_runtime_info(full=False))
    free, total = cupy.cuda.runtime.memGetInfo()
    print(f"memory: {total / 2**30:.1f} GiB, {free / 2**30:.1f} GiB of them free", flush=True)
    if smi := shutil.which("nvidia-smi"):
        asked = [smi, f"--query-gpu={QUERY}", "--format=csv"]
        print(subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False).stdout, flush=True)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Print all of it."""
    options = part.options(__doc__, arguments)
    side = SIDE[options.backend]

    def describe() -> bool:
        print(machine(), flush=True)
        return options.backend == "numpy" or describe_gpu()

    def product(label: str, backend: str, dtype: str) -> bool:
        like = part.Options(backend, options.clock).like(dtype)
        print(f"{label:<8}  {rate(like, side) / 1e12:8.3f} TFLOP/s  (products {side}×{side}×{side})", flush=True)
        return True

    todo = [("versions", describe), ("float32", lambda: product("float32", options.backend, "float32"))]
    if options.backend == "cupy":
        todo.append(("TF32", lambda: product("TF32", "cupy-tf32", "float32")))
    todo.append(("float64", lambda: product("float64", options.backend, "float64")))
    return part.one_by_one(options.clock, todo)


if __name__ == "__main__":
    sys.exit(main())
