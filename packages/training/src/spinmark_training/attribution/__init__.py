"""What of a scan and of its table row makes a distilled run find them alike, and how far to trust it.

- `path`: integrated gradients, as fine as completeness asks for.
- `similarity`: the cosine between a scan and a row; `windows`: scans larger than the encoder's grid.
- `cells`: rows as paths; `volumes`: where the path of a volume begins.
- `occlusion`: the same question asked by hiding parts.
- `sanity`: would random weights give the same map?
- `structures`: attribution in labelled structures.
- `choose`, `opened`, `explain`, `attribute`: scans, a run, one scan, all of them.
- `figures`, `store`: pictures and files.
"""

from spinmark_training.attribution.attribute import Attribution, ScanAttribution, attribution
from spinmark_training.attribution.path import Integrated, integrated_gradients
from spinmark_training.attribution.store import Written, write_attribution

__all__ = [
    "Attribution",
    "Integrated",
    "ScanAttribution",
    "Written",
    "attribution",
    "integrated_gradients",
    "write_attribution",
]
