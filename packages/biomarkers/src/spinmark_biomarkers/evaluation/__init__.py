"""Scores of embeddings, clusters and predictions, each with a subject-level interval.

- `bootstrap`: intervals by resampling whole subjects, and paired differences.
- `probes`: what can be read from an embedding: ridge R2, site leakage, table baselines.
- `clusters`: adjusted Rand index, label matching, the ceiling given by the true latents.
- `concordance`: Harrell's C in O(n log n), and the gain over another model.
- `labels`: which joints are labelled when only a few are.
- `spectral`, `neighbours`, `cox`: probes of many targets at once: ridge and logistic, kNN, hazards.
- `subject_scores`: metrics as functions of how often each subject counts.
- `hierarchical`: intervals over runs, draws of labels and subjects; differences; ratios.
- `retrieval`: from a scan to its table row and back, with chance.
- `probing`: all of these together, for many representations, as tidy rows.
- `brier`: Brier score under censoring and a competing death.
"""
