"""What is done to volumes between loading and storing, and the maps computed from them.

- `config`: what to do; light.
- `pipeline`: all of it on one volume, in order; what the ingest calls.
- `grid`: where a volume's voxels shall lie.
- `kernels`, `resample`, `resample_labels`: antialiased resampling of volumes, and of label maps.
- `intensity`: air against tissue, and percentiles of a scan.
- `bias_field`: N4, with the extra `n4`.
- `crop`, `joint_centre`: boxes about a joint, from labels or from the image alone.
- `relaxometry`, `t2_maps`: T2 from several echoes, for one volume and for a cohort.
"""
