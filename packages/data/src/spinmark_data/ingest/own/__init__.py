"""Cohorts that are not the OAI's: one's own clinical table, and BIDS datasets.

- `choose`: which table to read; `tables`, `columns`, `outcomes` read one's own by a YAML
- `template`: such a YAML, to be filled in
- `bids`, `bids_tables`: scans and tables of a BIDS dataset
"""
