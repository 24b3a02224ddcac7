"""The page about encoders: its examples run, and its table says what the code has."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from spinmark_models.config import EncoderConfig
from spinmark_models.encoders import ENCODERS, build_encoder
from spinmark_models.encoders.resnet import ResNetTrunk
from spinmark_models.encoders.settings import resolve

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "concepts" / "encoders.md"
SCRIPT = ROOT / "benchmarks" / "encoders.py"

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="only in a checkout")


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_encoders", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows() -> dict[str, list[str]]:
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(r"<!-- table: .*? -->\n(.*?)<!-- end of table -->", text, re.DOTALL)
    assert found is not None
    lines = found.group(1).strip().splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name.strip("`"): values for name, *values in cells}


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"encoders.md, example {number}", "exec"), names)


def test_the_table_has_every_encoder() -> None:
    assert list(rows()) == list(ENCODERS)


@pytest.mark.parametrize("name", list(ENCODERS))
def test_the_table_gives_the_parameters_of_the_code(name: str) -> None:
    if name == "densenet121":
        pytest.importorskip("monai")
    with torch.device("meta"):
        encoder = build_encoder(EncoderConfig(name=name), (96, 96, 96))
    count = sum(p.numel() for p in encoder.parameters())
    assert rows()[name][0].split()[0] == f"{count / 1e6:.2f}"


@pytest.mark.parametrize("name", ["residual3d", "resnet10", "vit3d"])
def test_the_table_gives_the_flops_that_are_counted(name: str, bench: ModuleType) -> None:
    _, operations = bench.flops(name, (96, 96, 96))
    assert rows()[name][1] == f"{operations / 1e9:,.0f}"


def test_a_multiplication_and_an_addition_are_two_flops() -> None:
    # torchvision's documentation gives 1.81 GFLOPs for ResNet-18 at 224 x 224, where a multiplication
    # with its addition is one; the classifier's 512 x 1000 are among them.
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        ResNetTrunk(resolve(EncoderConfig(name="resnet18", in_channels=3)), dims=2)(
            torch.empty(1, 3, 224, 224)
        )
    assert round((counter.get_total_flops() / 2 + 512 * 1000) / 1e9, 2) == 1.81


@pytest.mark.parametrize("name", ["residual3d", "vit3d"])
def test_activations_are_what_a_real_run_keeps(name: str, bench: ModuleType) -> None:
    grid = (16, 48, 48)
    encoder = build_encoder(EncoderConfig(name=name), grid)
    encoder.train(not encoder.fixed_grid)
    own = {t.untyped_storage().data_ptr() for t in (*encoder.parameters(), *encoder.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor.untyped_storage())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        output = encoder(torch.randn(1, 1, *grid))
    real = sum(s.nbytes() for pointer, s in kept.items() if pointer not in own)
    del output
    assert bench.activation_bytes(name, grid) == pytest.approx(real, rel=0.02)


def test_attention_keeps_no_matrix_of_patches(bench: ModuleType) -> None:
    # Twice the patches, twice the memory; a matrix of patches by patches would take four times.
    one, two = (bench.activation_bytes("vit3d", (64, 128, x)) for x in (256, 512))
    assert two / one == pytest.approx(2, rel=0.05)
