"""From one process to many nodes, and back after a kill.

- `processes`: which process this is, and whether what was asked for fits who started it.
- `environment`: the Lightning trainer's arguments for it.
- `batch_norm`: batch statistics over all processes, on a CPU too.
- `guard`: processes that have come apart, and batch norms that see one process alone, are told of.
- `signals`: USR1 and SIGTERM end a run at the next step, with a checkpoint.
- `slurm`: the script that a scheduler runs, and the requeue.

Nothing is imported here, so that the command can ask `processes` and `slurm` without loading torch.
"""
