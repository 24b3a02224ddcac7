"""The clinical teacher: an encoder of table rows, fitted on training subjects alone.

- `inputs`: what it may see of each scan's row, as a table and as tensors.
- `arrays`: files of numbers keyed by scan, such as embeddings of reports.
- `readout`: from latents back to cells.
- `fit`: fitting it.
- `model`: a fitted teacher, and its files.
- `missing`, `calibration`, `figure`: how well it does with cells that it is not shown.
"""

from spinmark_training.teacher.fit import fit_encoder, fit_teacher
from spinmark_training.teacher.inputs import encode_table, teacher_rows, teacher_table
from spinmark_training.teacher.missing import missing_report, reconstruction
from spinmark_training.teacher.model import (
    Teacher,
    check_subjects,
    load_teacher,
    save_teacher,
    teacher_latents,
)

__all__ = [
    "Teacher",
    "check_subjects",
    "encode_table",
    "fit_encoder",
    "fit_teacher",
    "load_teacher",
    "missing_report",
    "reconstruction",
    "save_teacher",
    "teacher_latents",
    "teacher_rows",
    "teacher_table",
]
