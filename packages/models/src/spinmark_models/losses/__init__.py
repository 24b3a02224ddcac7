"""Losses, one a file.

- `nt_xent`: NT-Xent of SimCLR, with pairs of the same group ignored.
- `clip`: contrast between two views of a subject, such as a scan and a table row.
- `relational`: distillation of distances between examples.
- `regression`: distillation of directions.
- `gather`: batches gathered over processes, with gradient.

In a distributed run each process returns the mean over its own rows, contrasted with the rows of
all; averaged over processes, as DistributedDataParallel averages gradients, this is the loss and
the gradient of one process that holds the whole batch.
"""
