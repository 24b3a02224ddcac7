"""Phenotypes: groups of joints found in the embeddings alone, frozen before outcomes are read.

- `discover`: all of it in one call; `rows`: which scans define a joint, and which are fitted.
- `projection`, `clusterers`, `cluster`: principal components, thirteen clusterers, and both together.
- `structure`: whether there are clusters at all, how many, and whether they are more than severity.
- `stability`: how far each phenotype survives.
- `freeze`: the hash that fixes labels; `history`: for which labels outcomes were read; `store`: the
  artefact on disk, checked against its hash.
- `description`: what a phenotype is, by variables that it was not made of.
- `directions`: axes, where there are no groups.
- `trajectories`: how joints move between visits.
- `reading`: sheets and forms for specialists who judge blind.
"""
