"""From a release (DICOM or NIfTI files and tables) to a cohort.

Tables:

- `tableset`: what every table reader returns.
- `cells`: the grammar of a cell.
- `oai_dictionary`: the variables of the OAI.
- `oai_files`, `oai_readings`, `oai_outcomes`, `oai_tables`: the OAI's ASCII tables.
- `plain_tables`: a clinical table of one's own.
"""
