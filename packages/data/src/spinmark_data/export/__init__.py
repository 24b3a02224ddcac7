"""A cohort, or a part of it, in the formats that other tools read.

- `config`: what to export; light.
- `common`: choosing scans, taking back mirroring, whole files only.
- `nifti`: one NIfTI file a scan and a table.
- `bids`, `bids_names`, `bids_tables`: a BIDS raw dataset, how its files are named, its tables.
- `ome_zarr`: one OME-Zarr image a scan and a table.
"""
