"""Does this machine compute what it should? Numerical checks that run on the user's own device.

- `records`: a check's figure, tolerance and verdict, and the machine it was run on.
- `convolution`: three-dimensional convolutions in bf16 and float32, up to large shapes.
- `contrast`: the contrastive kernel's loss and gradient against plain float64.
- `run`: all of them in order.

Some releases of the libraries below torch gave wrong results without a word, for some shapes only
and in bf16 only. A training run does not show that; these checks do.
"""
