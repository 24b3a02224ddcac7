"""How far a survival result leans on what cannot be checked, one module a check.

- `informative_censoring`: those lost to follow-up may do worse (or better): a grid of `delta` and where it
  tips.
- `ipcw`: censoring that depends on covariates, undone by weights.
- `e_value`: how strong an unmeasured confounder would have to be.
- `proportional_hazards`: whether a hazard ratio is one number over time.
"""
