"""Scores of embeddings, clusters and predictions, each with a subject-level interval.

- `bootstrap`: intervals by resampling whole subjects, and paired differences.
- `probes`: what can be read from an embedding: ridge R2, site leakage, table baselines.
- `clusters`: adjusted Rand index, label matching, the ceiling given by the true latents.
- `concordance`: Harrell's C in O(n log n), and the gain over another model.
- `brier`: Brier score under censoring and a competing death.
"""
