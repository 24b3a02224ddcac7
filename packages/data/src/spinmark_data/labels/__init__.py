"""Label maps (segmentations): read, brought onto their scans, kept beside a cohort.

- `config`: what is taken, without heavy imports
- `read`: any file to a `LabelMap`; `nifti`, `nrrd`, `dicom_seg` are its formats
- `names`: what codes mean, and one meaning for the codes of all files
- `box`: the smallest box about labels
- `grid`: a label map on the grid of its scan
- `match`: which file belongs to which scan
- `series`: which scan a series became, for DICOM-SEG
- `add`: `add_labels` adds a folder of label maps to a cohort
- `store`: `LabelSet` and `labels` read them
"""
