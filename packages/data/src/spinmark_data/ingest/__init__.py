"""From a release (DICOM or NIfTI files and tables) to a cohort.

In the order of the work:

- `config`, `selection_config`: what the user asks for, light; `template` and dry runs in `own`, `plan`
- `discover`, `source`, `archives`: which files make a series; `selection`, `sequences`: which are taken
- `images`, `dicom`, `nifti`, `echoes`, `geometry`, `laterality`: one series into one staged shard
- `staging`, `copies`, `arrange`: all of them, in parallel, each once, on one grid
- `oai`, `own`, `tableset`, `merge_tables`, `pseudonyms`: tables, and names for people
- `assemble`, `run`: the next generation of the cohort
"""
