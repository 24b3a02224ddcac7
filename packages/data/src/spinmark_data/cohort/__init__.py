"""The cohort artefact: its store of volumes, its tables and its reader.

- `reader`: `Cohort`, which opens a generation lazily.
- `volumes`, `direct`: boxes of voxels, through zarr-python or straight from local shards.
- `store`: writing a cohort; `encode`: volumes and coordinates as files of a Zarr store.
- `scans`: the scan table.
- `ledger`: what was done to which source.
- `manifest`: `cohort.json`, its generations and its content hash.
- `location`: a local folder or a prefix of an object store.
"""
