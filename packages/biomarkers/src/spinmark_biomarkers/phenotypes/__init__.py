"""Phenotypes: groups of joints found in the embeddings alone, frozen before outcomes are read.

- `cluster`: principal components and a clusterer, with deterministic labels.
- `stability`: how far each phenotype survives resampled subjects.
- `structure`: whether there are clusters at all: matched null, prediction strength, valleys.
- `panel`: whether a phenotype is a site, a scanner or a side.
- `freeze`: the hash that fixes labels.
- `discover`: all of it in one call, and prototypes.
- `store`: the artefact on disk, checked against its hash.
"""
