"""Studies that ask whether the survival models do what they claim, on data whose truth is known.

- `truth`: laws of the time to an event, their inverses, and the true cumulative incidence.
- `ranks`: ranks of the truth among posterior draws, and whether they are uniform.
- `sbc`: simulation-based calibration of a generative model.
- `coverage`: how often intervals hold the truth.
"""
