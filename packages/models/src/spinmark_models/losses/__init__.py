"""Losses, one a file.

- `nt_xent`: NT-Xent of SimCLR, with pairs of the same group ignored.
- `decoupled`, `debiased`, `hard_negative`, `mochi`, `ring`, `semi_hard`: the same with other uses
  of negatives.
- `moco`: against keys of a slow encoder, and of earlier batches.
- `instance_bank`: against the newest row of every other example.
- `clip`, `siglip`: contrast between two views of a subject, such as a scan and a table row.
- `sup_con`, `y_aware`, `tabular_similarity`, `metadata`: positives by label, by nearness of numbers, by
  likeness of table rows, and by joint and visit.
- `rank_n_contrast`: distances in the order of a number, or of a time that may be censored.
- `byol`, `simsiam`, `dino`, `swav`, `barlow_twins`, `vicreg`, `w_mse`: two views without negatives;
  `koleo` is a term that spreads embeddings.
- `relational`, `relational_angle`: distillation of distances and angles between examples.
- `cka`, `pkt`, `similarity_preserving`: distillation of similarities; `kd`: of class probabilities;
  `regression`, `vid`: of directions and features; `crd`: of which rows belong together.
- `adversarial`, `independence`: hiding a site or scanner, from a classifier or beyond severity.
- `vime`: which cells of a table were corrupted, and what stood in them.
- `registry`: all of them by name; `core`: what they share.

In a distributed run each process returns the mean over its own rows, contrasted with the rows of
all; averaged over processes, as DistributedDataParallel averages gradients, this is the loss and
the gradient of one process that holds the whole batch.
"""
