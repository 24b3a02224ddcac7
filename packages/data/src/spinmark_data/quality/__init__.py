"""Is each scan what it should be: measured, compared with its like, and the worst shown first.

- `config`: what to look at and how strict to be; imports nothing heavy.
- `foreground`: body and air of a volume.
- `noise`, `contrast`, `motion`, `coverage`, `slices`: the metrics, each a function of arrays.
- `measure`: all metrics of one scan.
- `fingerprint`, `duplicates`: the same image under two identifiers.
- `outliers`: robust z within a batch, and flags in plain words.
- `batches`: how scanners and sites differ.
- `pictures`: mid-plane pictures of scans.
- `assess`: all of it over a cohort.
"""
