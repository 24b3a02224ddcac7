"""Metadata-enhanced contrast: near visits of a joint attract, and nobody repels themselves.

Holland et al., "Metadata-enhanced contrastive learning from retinal optical coherence tomography
images", 2022, arXiv:2208.02529; there for eyes, here for any paired joint. Several positives enter
as in SupCon, with the sum outside the logarithm.
"""

import torch
from torch import Tensor

from spinmark_models.errors import InputError
from spinmark_models.losses.core.checks import check_groups, check_pair, check_temperature
from spinmark_models.losses.core.pairs import same_group, two_views
from spinmark_models.losses.core.positives import contrast_positives
from spinmark_models.losses.core.precision import unit


def metadata_enhanced(
    z1_ND: Tensor,
    z2_ND: Tensor,
    subject_N: Tensor,
    joint_N: Tensor,
    days_N: Tensor,
    temperature: float = 0.1,
    *,
    window_days: float = 365.25,
) -> Tensor:
    """The mean over views of the mean over their positives of the cross-entropy.

    Positives of a view are its partner and the views of the same joint within the window, ends
    included. All other views of that person are ignored: other visits, and the other knee at any
    visit. The views of all other people are negatives.

    Args:
        z1_ND: First views; normalised here.
        z2_ND: Second views, row by row the partners of the first.
        subject_N: Integers, one a person; a negative one is unknown, and like nobody else.
        joint_N: Integers, one a joint of a person; sides 0 and 1 will do. A negative one is
            unknown, and the same as none.
        days_N: When each pair was scanned, in days; a visit without a date (NaN) has no positive
            but its partner.
        temperature: Divides the cosines.
        window_days: Longest time between two visits that are positives, 0 or more.

    Returns:
        A scalar. A view without negatives is contrasted with its positives only.

    Raises:
        InputError: The shapes do not fit, or a number is out of its range.
    """
    check_pair(z1_ND, z2_ND)
    check_temperature(temperature)
    for name, given in (("subject", subject_N), ("joint", joint_N), ("days", days_N)):
        check_groups(given, len(z1_ND), name)
    if not window_days >= 0:
        raise InputError(f"window_days is {window_days}; use 0 or more.")
    views = two_views(unit(z1_ND), unit(z2_ND))
    days = days_N.to(torch.promote_types(days_N.dtype, torch.float32))
    own_days, all_days = views.own(days), views.everyone(days)
    same_subject, same_joint = same_group(views, subject_N), same_group(views, joint_N)

    def near_visit(rows: slice) -> Tensor:
        apart = (own_days[rows, None] - all_days[None, :]).abs_()
        return same_subject(rows) & same_joint(rows) & (apart <= window_days)

    def ignore(rows: slice) -> Tensor:
        return same_subject(rows) & ~near_visit(rows)

    return contrast_positives(views, near_visit, ignore, temperature)
