"""Trajectories: how joints move through the space of embeddings between their visits.

- `config`: settings, without anything heavy.
- `paths`: embeddings to one path a joint; who is left out, and why.
- `motion`: a state-space model of noise and movement, fitted by marginal likelihood.
- `partition`: a path's corners by minimum description length, exactly.
- `transitions`: the stretches between corners, as a table.
- `distance`: how far two transitions are apart in place, direction and speed.
- `group`: groups of transitions, their stability, and sequences of them along a path.
- `null`: is there movement, does it hang on place, and is it grouped?
- `mixed`: the likelihood of a mixed model with two knees in a person.
- `direction`: the line along which speed is measured.
- `speed`: progression speed of every joint, with its error.
- `frozen`: the hash that fixes them.
- `find`: all of it in one call.
- `store`: the artefact on disk, checked against its hash.

The way of partitioning and grouping goes back to Lee, Han and Whang (TRACLUS, 2007), which Holland et
al. (2023) took to visits in an embedding.
"""
