"""The clinical teacher: an encoder of table rows, fitted on training subjects alone.

- `inputs`: what it may see of each scan's row.
- `fit`: fitting it.
- `model`: a fitted teacher, and its files.
- `missing`: how well it does with cells that it is not shown.
"""

from spinmark_training.teacher.fit import fit_encoder, fit_teacher
from spinmark_training.teacher.missing import reconstruction
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
    "fit_encoder",
    "fit_teacher",
    "load_teacher",
    "reconstruction",
    "save_teacher",
    "teacher_latents",
]
