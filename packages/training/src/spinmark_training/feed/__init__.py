"""How samples get from the cohort to a step.

- `keys`: random numbers that belong to a joint and a view, many at once.
- `draws`: the parameters of views, from those numbers.
- `crops`: which box of a scan is read, and where in it views may lie.
- `jobs`: what is to be read, as numbers alone.
- `maker`: from a job to samples (stored integers) and from samples to views.
- `ahead`: the same in order, some ahead, in a thread of this process.
- `workers`: the same in processes of their own.
"""
