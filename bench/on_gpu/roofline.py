"""The roofline of a run: what each station does per byte and second, under what the device can do at best.

After Williams, Waterman and Patterson (2009): a kernel that does I operations per byte it moves cannot pass
min(matrix rate, I x copy bandwidth).
"""

from __future__ import annotations

from pathlib import Path

from bench.on_gpu.place import Figures


def points(figures: Figures) -> list[tuple[str, float, float]]:
    """(name, operations per byte, operations per second) of what was measured: stations with figures
    ``<name>_gb_per_s`` and ``<name>_ops_per_byte``, and networks with ``<name>_<engine>_per_s``."""
    found = []
    for key, value in figures.items():
        if key.endswith("_gb_per_s") and (ops := figures.get(key.replace("_gb_per_s", "_ops_per_byte"))):
            found.append((key.removesuffix("_gb_per_s"), float(ops), float(ops) * value * 1e9))
    for key, gflop in figures.items():
        if not key.endswith("_gflop"):
            continue
        name = key.removesuffix("_gflop")
        rates = {
            kind: figures[f"{name}_{kind}_per_s"]
            for kind in ("tensorrt", "onnx", "torch", "torch_compile", "torch_eager")
            if f"{name}_{kind}_per_s" in figures
        }
        if rates:
            best = max(rates, key=lambda kind: rates[kind])
            found.append((f"{name} ({best})", figures[f"{name}_ops_per_byte"], gflop * 1e9 * rates[best]))
    return found


def plot(figures: Figures, path: Path) -> None:
    """Write the plot; needs matplotlib and the two limits."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    copy, matrix = 1e9 * figures["copy_gb_per_s"], 1e12 * figures["matrix_fp16_tflop_per_s"]
    placed = points(figures)
    figure, axes = plt.subplots(figsize=(8.5, 5))
    low = min([0.05, *(x / 2 for _, x, _ in placed)])
    high = max([1e4, *(2 * x for _, x, _ in placed)])
    x = np.logspace(np.log10(low), np.log10(high), 200)
    axes.loglog(x, np.minimum(matrix, x * copy) / 1e12, color="black")
    for name, intensity, rate in placed:
        axes.plot(intensity, rate / 1e12, "o")
        share = rate / min(matrix, intensity * copy)
        right = intensity > 100  # of the labels of these there is room on the left
        axes.annotate(
            f"{name}, {100 * share:.0f} %",
            (intensity, rate / 1e12),
            xytext=(-6 if right else 6, -3),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=8,
        )
    axes.set_xlabel("operations per byte moved")
    axes.set_ylabel("TFLOP/s")
    axes.set_title(
        f"{figures['device']}: {copy / 1e9:.0f} GB/s copied, {matrix / 1e12:.0f} TFLOP/s in fp16 matrices"
    )
    axes.grid(True, which="both", alpha=0.2)
    figure.tight_layout()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
