"""Weights from a file: what matched, what did not, and what is never opened."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from spinmark_models.config import EncoderConfig
from spinmark_models.encoders.resnet import ResNetTrunk
from spinmark_models.encoders.settings import resolve
from spinmark_models.encoders.weights import PREFIXES, inflate_kernel, load_weights
from spinmark_models.errors import InputError

from .encoder_cases import small, volumes


def write(path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file({k: v.clone().contiguous() for k, v in tensors.items()}, path)
    return path


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in network.state_dict().items()}


def test_the_report_names_everything(tmp_path: Path) -> None:
    own, other = small("resnet10"), small("resnet10", widths=(8, 8, 12, 20))
    state = other.state_dict()
    state["extra.weight"] = torch.zeros(3)
    del state["trunk.conv1.weight"]
    before = snapshot(own)
    report = load_weights(own, write(tmp_path / "w.safetensors", state))
    differ = {k for k, v in before.items() if k in state and state[k].shape != v.shape}
    assert differ
    assert {name for name, _, _ in report.mismatched} == differ
    assert report.missing == ("trunk.conv1.weight",)
    assert report.unexpected == ("extra.weight",)
    assert set(report.matched) == set(before) - differ - {"trunk.conv1.weight"}
    assert not report.complete
    for name, tensor in own.state_dict().items():
        expected = state[name] if name in report.matched else before[name]
        assert torch.equal(tensor, expected)
    text = str(report)
    assert f"{len(report.matched)} of {len(before)} tensors loaded" in text
    assert "missing from the file: 1 (trunk.conv1.weight)" in text
    assert "not in the network: 1 (extra.weight)" in text
    assert f"of another shape: {len(differ)} (" in text


def test_a_strict_load_refuses_and_changes_nothing(tmp_path: Path) -> None:
    own = small("resnet10")
    state = {k: v + 1 for k, v in own.state_dict().items()}
    path = write(tmp_path / "whole.safetensors", state)
    assert load_weights(own, path, strict=True).complete
    del state["trunk.conv1.weight"]
    before = snapshot(own)
    with pytest.raises(InputError, match=r"missing from the file: 1 \(trunk.conv1") as caught:
        load_weights(own, write(tmp_path / "part.safetensors", state), strict=True)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(v, before[k]) for k, v in own.state_dict().items())


def test_prefixes_and_names_of_others_are_understood(tmp_path: Path) -> None:
    own = small("resnet10", norm="batch")
    theirs = {}
    for name, tensor in own.trunk.state_dict().items():  # type: ignore[union-attr]
        name = name.replace("shortcut", "downsample").replace("norm", "bn")
        name = name.replace("downsample.bn", "downsample.1")
        theirs[f"module.encoder.{name}"] = tensor
    path = write(tmp_path / "w.safetensors", theirs)
    trunk = own.trunk
    assert isinstance(trunk, ResNetTrunk)
    with pytest.raises(InputError, match="0 of"):
        load_weights(trunk, path)
    partly = load_weights(trunk, path, prefixes=PREFIXES)
    assert 0 < len(partly.matched) < len(theirs)
    assert load_weights(trunk, path, prefixes=PREFIXES, rename=True, strict=True).complete


def test_an_inflated_network_sees_a_slice_in_a_stack_of_equal_ones(tmp_path: Path) -> None:
    config = EncoderConfig(name="resnet10", widths=(8, 8, 12, 16), in_channels=3, norm="batch")
    torch.manual_seed(0)
    flat = ResNetTrunk(resolve(config), dims=2).eval().double()
    path = write(tmp_path / "w.safetensors", flat.state_dict())
    own = small("resnet10", stem_kernel=(7, 7, 7), norm="batch").eval().double()
    own.trunk.maxpool = nn.Identity()  # type: ignore[union-attr]
    flat.maxpool = nn.Identity()
    report = load_weights(own.trunk, path, inflate=True, sum_channels=True, strict=True)  # type: ignore[arg-type]
    kernels = [k for k, v in flat.state_dict().items() if v.ndim == 4]
    assert list(report.inflated) == kernels
    image = volumes(1, 1, 32, 32).double()
    # Deep enough that the middle never sees the padding at the ends of the stack.
    stack = image[:, :, None].expand(1, 1, 257, 32, 32)
    with torch.no_grad():
        seen = own(stack).pyramid[-1]
        expected = flat(image.expand(1, 3, 32, 32))[-1]
    torch.testing.assert_close(seen[:, :, seen.shape[2] // 2], expected)


def test_without_being_asked_nothing_is_inflated(tmp_path: Path) -> None:
    own = small("resnet10").trunk
    assert isinstance(own, ResNetTrunk)
    path = write(tmp_path / "w.safetensors", {"conv1.weight": torch.ones(8, 1, 3, 3)})
    with pytest.raises(InputError, match=r"of another shape: 1 \(conv1.weight \(8, 1, 3, 3\)"):
        load_weights(own, path)
    assert load_weights(own, path, inflate=True).inflated == ("conv1.weight",)
    torch.testing.assert_close(own.conv1.weight, torch.full((8, 1, 3, 3, 3), 1 / 3))


def test_a_kernel_keeps_its_sum() -> None:
    kernel = volumes(4, 2, 3, 3)
    spread = inflate_kernel(kernel, 5)
    assert spread.shape == (4, 2, 5, 3, 3)
    torch.testing.assert_close(spread.sum(2), kernel)


def test_half_precision_files_are_converted(tmp_path: Path) -> None:
    own = small("residual3d")
    state = {k: v.bfloat16() if v.is_floating_point() else v for k, v in own.state_dict().items()}
    assert load_weights(own, write(tmp_path / "w.safetensors", state), strict=True).complete
    assert all(p.dtype == torch.float32 for p in own.parameters())


class Trap:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str, bytes]]:
        return _touch, ("trace", b"")


def _touch(name: str, _: bytes) -> None:
    Path(name).touch()


def test_a_pickle_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pt"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match="pickled checkpoints are not opened"):
        load_weights(small("residual3d"), path)
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="pickled checkpoints are not opened"):
        load_weights(small("residual3d"), path)
    assert not (tmp_path / "trace").exists()


def test_bad_files_are_refused_and_change_nothing(tmp_path: Path) -> None:
    own = small("residual3d")
    before = snapshot(own)
    with pytest.raises(InputError, match="is absent"):
        load_weights(own, tmp_path / "nothing.safetensors")
    with pytest.raises(InputError, match="cannot be read"):
        load_weights(own, tmp_path)
    state = snapshot(own)
    state["stem.0.weight"][0] = torch.nan
    with pytest.raises(InputError, match=r"'stem.0.weight' holds values that are no numbers"):
        load_weights(own, write(tmp_path / "nan.safetensors", state))
    twice = {"stem.1.weight": torch.ones(4), "model.stem.1.weight": torch.zeros(4)}
    with pytest.raises(InputError, match=r"both become 'stem.1.weight'"):
        load_weights(own, write(tmp_path / "two.safetensors", twice), prefixes=("model.",))
    assert all(torch.equal(v, before[k]) for k, v in own.state_dict().items())


@pytest.mark.parametrize(
    ("turned", "said"),
    [
        (lambda x: x.int(), r"torch\.int32 in the file and torch\.float32"),
        (lambda x: x.to(torch.complex64), r"torch\.complex64 in the file"),
        (lambda x: torch.full_like(x, 1e300, dtype=torch.float64), "no numbers in torch.float32"),
    ],
)
def test_numbers_that_cannot_be_converted_are_refused(
    tmp_path: Path, turned: Callable[[torch.Tensor], torch.Tensor], said: str
) -> None:
    own = small("residual3d")
    before = snapshot(own)
    state = snapshot(own)
    state["stem.0.weight"] = turned(state["stem.0.weight"])
    with pytest.raises(InputError, match=said) as caught:
        load_weights(own, write(tmp_path / "w.safetensors", state))
    assert "\n" not in str(caught.value)
    assert all(torch.equal(v, before[k]) for k, v in own.state_dict().items())


def test_a_file_cut_short_is_refused_and_an_empty_prefix_strips_nothing(tmp_path: Path) -> None:
    own = small("residual3d")
    path = write(tmp_path / "w.safetensors", snapshot(own))
    assert load_weights(own, path, prefixes=("",), strict=True).complete
    whole = path.read_bytes()
    for kept in (0, 7, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(InputError, match="cannot be read as safetensors") as caught:
            load_weights(own, path)
        assert "\n" not in str(caught.value)
