"""The PyMC model of each form: family, priors, censoring and frailty.

- `spec`: what decides the form; all else is data.
- `build`: the model of a form.
- `latent`: the log-normal frailty that is drawn for every person.
"""
