"""Batched 3D augmentation.

- `config`: `AugmentConfig`, the ranges; loads without torch.
- `parameters`: `sample_parameters` and `AugmentParameters`, drawn apart from their use.
- `apply`: views from scans, through either of the two below.
- `kernels`: one compiled pass on the CPU, straight from stored integers.
- `torch_backend`: the same in torch, on any device.
"""
