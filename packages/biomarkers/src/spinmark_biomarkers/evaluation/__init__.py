"""Scores of embeddings, clusters and predictions, each with a subject-level interval.

- `bootstrap`: intervals by resampling whole subjects, and paired differences.
- `probes`: what can be read from an embedding: ridge R2, site leakage, table baselines.
- `clusters`: adjusted Rand index, label matching, the ceiling given by the true latents.
- `concordance`: Harrell's, Uno's and the competing-risk C in O(n log n), and gains over a model.
- `labels`: which joints are labelled when only a few are.
- `spectral`, `neighbours`, `cox`: probes of many targets at once: ridge and logistic, kNN, hazards.
- `subject_scores`: metrics as functions of how often each subject counts.
- `hierarchical`: intervals over runs, draws of labels and subjects; differences; ratios.
- `retrieval`: from a scan to its table row and back, with chance.
- `probing`: all of these together, for many representations, as tidy rows.
- `brier`: Brier score under censoring and a competing death, and the index of prediction accuracy.
- `auc`: time-dependent AUC with either kind of controls.
- `calibration`, `d_calibration`: of a risk at a horizon, and of whole curves.
- `decision`: net benefit and decision curves.
- `time_lost`: years lost to the event, years free of it, by group.
- `predictions`: all of these for one model, or the gains of one over another, as tidy rows.
- `scores`: the same figures as functions of row weights, for a bootstrap of one's own.
- `risk_sets`, `censoring`, `pseudo`, `weighting`, `pair_counts`, `smoothing`, `checks`: what they share.
"""
