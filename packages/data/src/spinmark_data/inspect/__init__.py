"""What is in a cohort, how large it is, how complete, and what it looks like.

- `summary`: counts and sizes, by sequence, visit, site, role, endpoint and issue.
- `records`: what a summary is made of.
- `contact_sheet`: middle slices of a seeded sample of scans.
- `completeness`: the summary's shares as heat maps.
- `picture`: windowing and resampling of grey pictures.
- `terminal`: a grey picture in characters.
"""
