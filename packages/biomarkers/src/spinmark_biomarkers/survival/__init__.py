"""Bayesian time-to-event models with a competing death and a frailty shared by a person's joints.

- `config`: what can be set; imports nothing heavy.
- `data`: outcomes checked and brought into the form that is fitted.
- `likelihood`: the exact likelihood, in NumPy and in PyTensor.
- `model`: the estimator, its priors and diagnostics.
- `predict`: cumulative incidence with death competing.
- `nonparametric`: Aalen-Johansen curves and numbers at risk.
- `design`: covariates imputed, standardised and reduced on the fitting subjects only.
- `prognosis`: several named models fitted, scored on test subjects and written.
"""
