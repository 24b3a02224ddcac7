"""Bayesian time-to-event models with a competing death and a frailty shared by a person's joints.

Data:

- `data`: outcomes checked and brought into the form that is fitted, with `tables`, `checks`, `separation`.
- `design`: covariates imputed, standardised and reduced on the fitting subjects only.
- `imputation`: gaps drawn several times instead; `pooling` of what comes of it.
- `simulate`: data with a known truth.

Models:

- `likelihoods`: the exact likelihood of each family, in NumPy and in PyTensor.
- `priors`, `prior_predictive`: what is believed before the data, and what that implies.
- `models`: the estimators, with `pymc_models`, `engines` and `diagnostics` behind them.
- `laplace`: a fast approximation, for resampling.
- `cox_regression`, `nonparametric`: estimates without a prior, and curves without a model.

Predictions and their worth:

- `hazards`, `prediction`: absolute risk with all causes competing, at landmarks, given the other knee.
- `validation`: leaving people out, nested cross-validation, optimism, subgroups, what a model adds.
- `matched`, `discordance`, `sensitivity`, `robustness`: what would upset a conclusion.
- `studies`: simulation-based calibration and coverage.

From tables to an artefact:

- `config`: what can be set; imports nothing heavy.
- `fitting`, `prognosis`, `crossfit`, `scoring`, `store`: named models fitted, predicted, scored and written.
"""
