"""Who is in: from everyone to the analysed, by rules in YAML, counted and with reasons.

- `config`: a cohort definition as dataclasses.
- `expression`: conditions as text, read by a parser that runs no code.
- `variables`: the variables of a cohort at joints and scans, for conditions to be asked of.
- `frames`: a cohort of frames in memory.
- `apply`: the analysed joints and scans, and the counted flow that led to them.
- `known`: from which day on a joint is known to be among the analysed
- `figure`: the flow as boxes and arrows.
"""
