"""DICOM files into one volume.

- `series`: a series into a volume, or the reason why not
- `headers`, `scan`: the wanted tags of a file; `known_words`: what of their text may be told
- `layout`, `multiframe`: how images stack
- `pixels`, `rescale`: their voxels
"""
