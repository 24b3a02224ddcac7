"""Batched 3D augmentation.

- `config`: `AugmentConfig`, the ranges; loads without torch.
- `parameters`: `sample_parameters` and `AugmentParameters`, drawn apart from their use.
- `replay`: parameters as a file.
- `apply`: views from scans, through either of the two backends below.
- `cpu_backend`, `kernels`, `filter_kernel`: compiled, on the CPU, straight from stored integers.
- `torch_backend`: the same in torch, on any device.
- `geometry`, `elastic`, `motion`, `filters` (blur, low resolution), `histogram`, `cutout`: the changes.
- `counted`: random numbers that depend on a view's seed alone.
"""
