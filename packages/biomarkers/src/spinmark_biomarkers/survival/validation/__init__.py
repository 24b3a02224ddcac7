"""Validation and comparison of survival models; the unit that is left out or drawn is the subject.

- `learners`: what can be validated: anything that is fitted on rows and predicts others.
- `folds`: subjects dealt to folds, with the events spread evenly.
- `loo`: expected log predictive density, leaving one subject out.
- `nested`: an outer score of a choice that is made inside.
- `optimism`: a score on the fitted people, corrected by the bootstrap.
- `subgroups`: performance and calibration by sex, race, body mass and site.
- `increments`: what each model of a ladder adds to the one below, with its interval.
- `wording`: the same in plain words; `of_prognosis`: both of what `prognose` returns.
"""
