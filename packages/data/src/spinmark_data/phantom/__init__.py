"""A made-up knee cohort with known truth, written as a release would be.

- `state`: the values that describe one joint at one visit, one scanner and one grid.
- `config`: the parameters of a phantom cohort.
"""
