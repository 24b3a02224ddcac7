"""From posterior draws of hazards to absolute risks that a clinician can read.

- `incidence`: cumulative incidence with all causes competing, at landmarks, and expected time lost.
- `integration`: the numerical part of it.
- `other_joint`: the risk given what became of the person's other joint.
- `follow_up`: what is an extrapolation, and who is free at a landmark.
- `predictor`: named joints and fitted models in, labelled arrays out.
- `explain`, `shapley`: what each block of covariates adds to a joint's risk.
"""
