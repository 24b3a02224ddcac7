"""Directions: continuous axes through embeddings, for where the verdict is a continuum.

- `config`: the settings.
- `base`: what every axis model promises: unit scores, fixed signs and order, an inverse.
- `principal`, `independent`, `sparse`, `reliable`, `archetypes`: the models, one a module.
- `rotation`: varimax and the rotation of independent components, which the models share.
- `simplex`, `hull`: least squares with weights that are not negative and add up to one.
- `registry`: models by name.
- `parallel`: how many axes exceed chance (parallel analysis over subjects), and how many archetypes.
- `matching`: which axis of one set is which of another.
- `stability`: how far each axis survives resampled subjects.
- `reliability`: intraclass correlation over rescans, visits and sides.
- `panel`: whether an axis is a site, a scanner or a side.
- `members`: joints along an axis, one a subject.
- `find`: all of it in one call; `repeats` and `number`: what reliable axes call a repeat, and how many axes.
- `assess`: how far to trust them.
- `store`: the artefact on disk, frozen by a hash.
"""
