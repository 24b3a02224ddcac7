"""The cohort artefact: its store of volumes, its tables and its reader.

- `manifest`: `cohort.json`, its checksums and its content hash.
- `store`: volumes into `images.zarr`, frames into `tables/`, one owner a shard.
- `reader`: `Cohort`, which opens all of it lazily.
"""
