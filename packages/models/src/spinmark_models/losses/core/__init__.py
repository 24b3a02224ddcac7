"""What losses share; none of these is a loss by itself.

- `kernel`: any loss of similarities, a block of rows at a time; `info_nce`: the row losses that most are.
- `pairs`, `positives`: who is contrasted with whom; `negative_queue`: keys of earlier batches;
  `memory_bank`: one row for every example.
- `ranked`: contrast of distances in an order; `sinkhorn`: balanced assignment.
- `gather`, `batch`: rows and statistics of all processes, with gradient; `hsic`: dependence by kernels.
- `checks`, `precision`: what arguments may be, and in how many bits losses are worked out.
"""
