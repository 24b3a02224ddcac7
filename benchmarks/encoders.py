"""How large each image encoder is: `nox -s bench -- encoders`.

Nothing is computed. FLOPs are counted on tensors without data (`torch.utils.flop_counter` on the meta
device), so that the full DESS grid needs no memory: one volume forward, a multiplication and an addition
as 2, convolutions and matrix products only. Activation memory is what autograd keeps for the backward
pass of one volume in float32, parameters apart, each storage once, on fake CPU tensors with PyTorch's fused
attention. A GPU needs more: gradients, workspaces and what an allocator rounds up.

`--write PAGE` puts the table between the marks in a Markdown page. The last line is JSON:
for each encoder and grid `parameters`, `gflops` and `activation_mb`.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from spinmark_models.config import EncoderConfig, Shape3
from spinmark_models.encoders import ENCODERS, ImageEncoder, build_encoder

GRIDS: dict[str, Shape3] = {"cube": (96, 96, 96), "dess": (160, 384, 384)}
MARKS = ("<!-- table: benchmarks/encoders.py -->", "<!-- end of table -->")


def parameters(encoder: ImageEncoder) -> int:
    """Numbers that training changes."""
    return sum(p.numel() for p in encoder.parameters() if p.requires_grad)


def flops(name: str, grid: Shape3) -> tuple[int, int]:
    """Parameters, and FLOPs of one volume forward."""
    with torch.device("meta"):
        encoder = build_encoder(EncoderConfig(name=name), grid).eval()
        x = torch.empty(1, 1, *grid)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder(x)
    return parameters(encoder), counter.get_total_flops()


def activation_bytes(name: str, grid: Shape3) -> int:
    """Bytes that autograd keeps of one volume until the backward pass."""
    kept: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    encoder = build_encoder(EncoderConfig(name=name), grid)
    # The embedding of residual3d is normalised over the batch, which needs more than one volume in
    # training; what is kept is the same but for a vector.
    encoder.train(not encoder.fixed_grid)
    with FakeTensorMode() as mode:
        state = {k: mode.from_tensor(v) for k, v in encoder.state_dict(keep_vars=True).items()}
        own = {v.untyped_storage()._cdata for v in state.values()}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            output = functional_call(encoder, state, (torch.empty(1, 1, *grid),))
    del output
    return sum(s.nbytes() for key, s in kept.items() if key not in own)


def measure() -> dict[str, dict[str, dict[str, float]]]:
    """Every registered encoder at every grid."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for name in ENCODERS:
        result[name] = {}
        for grid_name, grid in GRIDS.items():
            count, operations = flops(name, grid)
            result[name][grid_name] = {
                "parameters": count,
                "gflops": round(operations / 1e9, 1),
                "activation_mb": round(activation_bytes(name, grid) / 2**20, 1),
            }
    return result


def _million(count: float) -> str:
    return f"{count / 1e6:.2f}"


def table(result: dict[str, dict[str, dict[str, float]]]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| encoder | parameters, millions | GFLOPs at 96^3 | activations at 96^3, MiB "
        "| GFLOPs at DESS | activations at DESS, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for name, grids in result.items():
        cube, dess = grids["cube"], grids["dess"]
        count = _million(cube["parameters"])
        if dess["parameters"] != cube["parameters"]:
            count += f" at 96^3, {_million(dess['parameters'])} at DESS"
        cells = [f"`{name}`", count]
        cells += [
            f"{grid[key]:,.0f}" for grid in (cube, dess) for key in ("gflops", "activation_mb")
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Count and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="a Markdown page whose table is replaced")
    args = parser.parse_args()
    result = measure()
    print(table(result))
    if args.write is not None:
        page = args.write.read_text(encoding="utf-8")
        start, end = map(re.escape, MARKS)
        new = f"{MARKS[0]}\n{table(result)}\n{MARKS[1]}"
        page, count = re.subn(f"{start}.*?{end}", lambda _: new, page, flags=re.DOTALL)
        if count != 1:
            parser.error(f"{args.write} holds the marks {count} times; one table is written")
        args.write.write_text(page, encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
