"""How far phenotypes survive other subjects, seeds, encoders, sites, knees, folds and cohorts.

- `bands`: what a Jaccard similarity is called.
- `bootstrap`: Jaccard similarity of each phenotype under resampled subjects.
- `entropy`: how certain the assignments are.
- `recipe`: how a clustering is fitted again.
- `agreement`: two labelings of the same scans.
- `labelings`: several labelings of the same scans, of encoders or seeds, aligned to one.
- `sites`: refits without each site, and how common phenotypes are at each.
- `knees`: right and left knees of the same people.
- `folds`: one labeling from the folds of a cross-fitted run.
- `transport`: the phenotypes of one cohort in another.
- `report`: all of it that applies, in one call.
"""

from spinmark_biomarkers.phenotypes.stability.bands import BANDS, category
from spinmark_biomarkers.phenotypes.stability.bootstrap import cluster_stability, jaccard_rows
from spinmark_biomarkers.phenotypes.stability.entropy import (
    assignment_entropy,
    entropy_by_phenotype,
)

__all__ = [
    "BANDS",
    "assignment_entropy",
    "category",
    "cluster_stability",
    "entropy_by_phenotype",
    "jaccard_rows",
]
