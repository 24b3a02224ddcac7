"""Whether an embedding holds clusters at all, and how many.

Any clusterer returns clusters. These modules ask whether they are there:

- `verdict`: clusters, continuum or none, with reasons and a table; `judge` is the way in.
- `severity`: whether groups are more than how bad a joint is.
- `shape`: departure from a single Gaussian; `sigclust`: the best cut in two against one.
- `prediction`: whether clusters are found again in the other half of the people.
- `borders`: valleys on the borders; `dip`: Hartigan's dip between neighbours.
- `consensus`: PAC against a matched null; `gap`; `criteria`: BIC, ICL, silhouette.
- `null`: the matched null; `lloyd`: k-means that is quick enough for all of this; `fits`, `inputs`.
"""

from spinmark_biomarkers.phenotypes.structure.dip import dip_p, dip_statistic, valley_tests
from spinmark_biomarkers.phenotypes.structure.null import matched_null
from spinmark_biomarkers.phenotypes.structure.prediction import (
    prediction_strength,
    strength_against_null,
)

__all__ = [
    "dip_p",
    "dip_statistic",
    "matched_null",
    "prediction_strength",
    "strength_against_null",
    "valley_tests",
]
