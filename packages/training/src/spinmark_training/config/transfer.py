"""How the teacher's knowledge reaches the image encoder."""

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class TransferConfig:
    """How the teacher's knowledge reaches the image encoder.

    Args:
        terms: Losses between image and table by name and weight, keys of
            `spinmark_training.transfer.TRANSFERS`.
        temperature: Divides the cosines between images and tables.
        direction: Weight of finding the table of an image against finding the image of a table, in
            [0, 1] (the lambda of arXiv:2303.14080).
    """

    terms: dict[str, float] = field(default_factory=lambda: {"clip": 2.0, "rkd_distance": 1.0})
    temperature: float = 0.15
    direction: float = 0.5
