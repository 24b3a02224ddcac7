"""Clinical encoders: rows of a table become embeddings, whatever is missing.

- `base`: `TabularEncoder`, the interface; cells as tokens, learning from hidden cells.
- `mlp`, `ft_transformer`: the encoders; `registry`: by name.
- `binning`: numbers as shares of quantile bins.
- `pretexts`: SCARF, and the values of given variables; `history`: earlier visits of a row.
- `corruption`, `samplers`: cells replaced or hidden, and where their values come from.
- `checks`: what a configuration may say.
"""

from spinmark_models.clinical.base import TabularEncoder
from spinmark_models.clinical.ft_transformer import FTTransformer
from spinmark_models.clinical.mlp import ClinicalEncoder
from spinmark_models.clinical.registry import TABULAR_ENCODERS, build_clinical_encoder

__all__ = [
    "TABULAR_ENCODERS",
    "ClinicalEncoder",
    "FTTransformer",
    "TabularEncoder",
    "build_clinical_encoder",
]
