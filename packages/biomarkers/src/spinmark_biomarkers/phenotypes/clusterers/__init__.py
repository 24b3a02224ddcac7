"""Clusterers with scikit-learn's interface, and a soft assignment for every one.

- `base`: what all promise: canonical order of rows, clusters by size, checks, one thread.
- `kmeans`: k-means.
- `gaussian`, `student`: mixtures of normal and of t laws; on `mixture` (what a mixture is), `covariance`
  and `factors` (the shapes of its clusters), `em` (the algorithm) and `mixture_clusterer` (starts,
  criteria).
- `dirichlet`: a Dirichlet-process mixture, which finds the number of clusters.
- `density`: HDBSCAN, which finds it too, and rows that are noise.
- `spectral`, `agglomerative`: partitions, taken to other rows by `neighbours`.
- `registry`: all of them by name.
"""
