"""The OAI's own formats: its clinical tables in both distributions, and its lists of images.

- `tables`: all of it, into the tables of a cohort; `files`, `nda_tables`, `sas_tables` open the forms
- `cells`: the grammar of a cell; `dictionary`, `nda_names`, `moaks`: which variables there are
- `collect`: cells of many tables into one; `readings`: one reading a knee; `checks`: totals and ranges
- `outcomes`, `outcome_columns`: OUTCOMES99 into intervals
- `series_index`: contents.csv and image03.txt
- `config`: what no document establishes, light
"""
