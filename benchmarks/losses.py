"""How fast and how small the losses are: `nox -s bench -- losses`.

NT-Xent, forward and backward, float32 on a CPU with `--threads` threads:

- against a plain dense cross-entropy over the whole matrix of similarities, at `--pairs` pairs of
  `--features` features, and again at as many rows, half as many pairs;
- against pytorch-metric-learning's NTXentLoss and MONAI's ContrastiveLoss at `--small` pairs, since
  both hold a third axis: at 4096 pairs they would need hundreds and tens of gigabytes.

Rank-N-Contrast, forward and backward, against the plain loop over columns, at `--batch` rows.

All are first checked to give one loss and one gradient. Then they run in turn, in random order, and each
round gives one ratio of CPU times to spinmark; the median over rounds is reported, so that a slow moment
of the machine meets all. Memory is the peak of resident memory above what a fresh process held after
imports, inputs and a first call of 8 pairs; at `--large` pairs for spinmark alone.

The last line is JSON; `speedup` above 1 means that spinmark is faster, `memory` below 1 that it is smaller.
"""

import argparse
import contextlib
import json
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from spinmark_models.losses.nt_xent import nt_xent

TEMPERATURE = 0.1
SPINMARK, DENSE, PML, MONAI = "spinmark", "dense", "pytorch-metric-learning", "MONAI"
LOOP = "loop"

PairLoss = Callable[[Tensor, Tensor], Tensor]


def dense(a: Tensor, b: Tensor) -> Tensor:
    """Cross-entropy over the matrix of all similarities, as one would write it."""
    z = F.normalize(torch.cat([a, b]), dim=1)
    similarity = z @ z.T / TEMPERATURE
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    partner = torch.arange(len(z), device=z.device).roll(len(a))
    return F.cross_entropy(similarity.masked_fill(itself, -torch.inf), partner)


def pair_losses(names: Sequence[str] = (SPINMARK, DENSE, PML, MONAI)) -> dict[str, PairLoss]:
    """NT-Xent by name, without peers that are not installed."""
    found: dict[str, PairLoss] = {
        SPINMARK: lambda a, b: nt_xent(a, b, TEMPERATURE),
        DENSE: dense,
    }
    with warnings.catch_warnings(), contextlib.suppress(ImportError):
        # Of what peers load.
        warnings.simplefilter("ignore")
        if PML in names:
            found[PML] = pytorch_metric_learning()
    with warnings.catch_warnings(), contextlib.suppress(ImportError):
        warnings.simplefilter("ignore")
        if MONAI in names:
            from monai.losses import ContrastiveLoss

            found[MONAI] = ContrastiveLoss(temperature=TEMPERATURE)
    return {name: found[name] for name in names if name in found}


def pytorch_metric_learning() -> PairLoss:
    """Its NT-Xent, of pairs."""
    from pytorch_metric_learning.losses import NTXentLoss

    peer = NTXentLoss(temperature=TEMPERATURE)
    return lambda a, b: peer(torch.cat([a, b]), torch.arange(len(a)).repeat(2))


def rank_losses() -> dict[str, PairLoss]:
    """Rank-N-Contrast of embeddings and values `(N, 1)`."""
    from spinmark_models.losses.rank_n_contrast import rank_n_contrast

    def loop(z: Tensor, values: Tensor, temperature: float = 2.0) -> Tensor:
        n = len(z)
        others = ~torch.eye(n, dtype=torch.bool)
        apart = (values - values.T).abs()[others].view(n, n - 1)
        # The distance of a row from itself has no slope; it is not looked at.
        distance = (z[:, None] - z[None]).square().sum(dim=2)[others].sqrt().view(n, n - 1)
        logits = -distance / temperature
        total = z.new_zeros(())
        for j in range(n - 1):
            farther = apart >= apart[:, j : j + 1]
            total = total + (logits.exp() * farther).sum(dim=1).log().sum() - logits[:, j].sum()
        return total / (n * (n - 1))

    return {SPINMARK: lambda z, values: rank_n_contrast(z, values.detach()[:, 0]), LOOP: loop}


def inputs(n: int, features: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two matrices that get gradients."""
    g = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(n, d, generator=g).requires_grad_() for d in features)
    return a, b


def both_ways(loss: PairLoss, x: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The loss and its gradient by the first matrix."""
    x[0].grad = x[1].grad = None
    value = loss(*x)
    value.backward()
    assert x[0].grad is not None
    return value.detach(), x[0].grad


def check(losses: dict[str, PairLoss], x: tuple[Tensor, Tensor]) -> None:
    """All give the same; ends the run if not."""
    want = both_ways(losses[SPINMARK], x)
    for name, loss in losses.items():
        for got, expected in zip(both_ways(loss, x), want, strict=True):
            if not torch.allclose(got, expected, rtol=1e-3, atol=1e-6):
                raise SystemExit(f"{name} does not give what spinmark gives.")


def race(
    title: str, losses: dict[str, PairLoss], x: tuple[Tensor, Tensor], rounds: int
) -> dict[str, float]:
    """Run all in turn; print a table; the median ratio of CPU times to spinmark's."""
    check(losses, x)
    wall: dict[str, list[float]] = {name: [] for name in losses}
    cpu: dict[str, list[float]] = {name: [] for name in losses}
    order = list(losses)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            start, begun = time.perf_counter(), time.process_time()
            both_ways(losses[name], x)
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - begun)
    ratios = {
        name: statistics.median(a / b for a, b in zip(cpu[name], cpu[SPINMARK], strict=True))
        for name in losses
    }
    print(f"\n{title}, {rounds} rounds")
    print(f"{'':26} {'wall ms':>10} {'CPU ms':>10} {'x spinmark (CPU)':>18}")
    for name in losses:
        middle = 1000 * statistics.median(wall[name]), 1000 * statistics.median(cpu[name])
        print(f"{name:26} {middle[0]:10.1f} {middle[1]:10.1f} {ratios[name]:18.2f}")
    return ratios


def status(field: str) -> float:
    """A figure of this process in MB, by its name in Linux's /proc."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"This system does not tell {field}.")


def measure(name: str, pairs: int, features: int) -> None:
    """Print the peak of resident memory in MB that one loss adds; for a fresh process."""
    losses = pair_losses([name])
    both_ways(losses[name], inputs(8, (features, features)))
    x = inputs(pairs, (features, features))
    # What importing needed for a moment is not to hide what the loss needs.
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    both_ways(losses[name], x)
    # At tiny sizes nothing new may be needed at all.
    print(max(status("VmHWM") - before, 0.1))


def peak(name: str, pairs: int, args: argparse.Namespace) -> float:
    """The same, in a process of its own."""
    words = [sys.executable, __file__, "--measure", name, "--pairs", str(pairs)]
    words += ["--features", str(args.features), "--threads", str(args.threads)]
    run = subprocess.run(words, capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(run.stderr)
    found = float(run.stdout.splitlines()[-1])
    print(f"{name:26} {pairs:>8} pairs {found:10.1f} MB")
    return found


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=4096, help="pairs against dense")
    parser.add_argument("--small", type=int, default=256, help="pairs against libraries")
    parser.add_argument(
        "--large", type=int, default=32768, help="pairs for spinmark's memory alone"
    )
    parser.add_argument("--batch", type=int, default=256, help="rows of Rank-N-Contrast")
    parser.add_argument("--features", type=int, default=128, help="length of a row")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each race")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--measure", metavar="NAME", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.measure is not None:
        measure(args.measure, args.pairs, args.features)
        return
    random.seed(0)
    losses = pair_losses()
    two = {name: losses[name] for name in (SPINMARK, DENSE)}
    wide = (args.features, args.features)

    def pairs(n: int) -> str:
        return f"NT-Xent, {n} pairs of {args.features} features"

    large = race(pairs(args.pairs), two, inputs(args.pairs, wide), args.rounds)
    half = race(pairs(args.pairs // 2), two, inputs(args.pairs // 2, wide), args.rounds)
    small = race(pairs(args.small), losses, inputs(args.small, wide), args.rounds)
    ranks = race(
        f"Rank-N-Contrast, {args.batch} rows",
        rank_losses(),
        inputs(args.batch, (args.features, 1)),
        args.rounds,
    )
    print("\nPeak of resident memory above the baseline")
    held = {name: peak(name, args.pairs, args) for name in two}
    held_half = {name: peak(name, args.pairs // 2, args) for name in two}
    held_small = {name: peak(name, args.small, args) for name in losses}
    most = peak(SPINMARK, args.large, args)

    def ratio(table: dict[str, float], name: str) -> float | None:
        return round(table[name], 2) if name in table else None

    result = {
        "ntxent_speedup_vs_dense": ratio(large, DENSE),
        "ntxent_memory_vs_dense": round(held[SPINMARK] / held[DENSE], 3),
        "ntxent_speedup_vs_dense_half": ratio(half, DENSE),
        "ntxent_memory_vs_dense_half": round(held_half[SPINMARK] / held_half[DENSE], 3),
        "ntxent_speedup_vs_pml": ratio(small, PML),
        "ntxent_speedup_vs_monai": ratio(small, MONAI),
        "ntxent_small_mb": {name: round(value, 1) for name, value in held_small.items()},
        f"ntxent_{args.large}_peak_mb": round(most, 1),
        "rnc_speedup_vs_loop": ratio(ranks, LOOP),
        "absent": [name for name in (PML, MONAI) if name not in losses],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
