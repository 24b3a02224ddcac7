"""Is a run healthy? Verdicts in plain words, from its metrics alone.

`examine` judges a run that is over, `Watcher` one that goes on. Both read nothing but the rows of
`metrics.csv`. docs/concepts/training-doctor.md has a section on each diagnosis.

- `finding`: `Finding`, `Context` and how rows are read.
- `examine`: all checks.
- `finite`, `chance`, `collapse`, `views`, `negatives`, `teacher`, `learning_rate`, `leakage`, `feed`: one
  diagnosis each, with its threshold and the reason for it.
- `source`: which layer, weight or gradient is the first that is not finite; needs the network itself.
"""

from spinmark_training.doctor.examine import CHECKS, Watcher, diagnose, examine
from spinmark_training.doctor.finding import Context, Finding, Row

__all__ = ["CHECKS", "Context", "Finding", "Row", "Watcher", "diagnose", "examine"]
