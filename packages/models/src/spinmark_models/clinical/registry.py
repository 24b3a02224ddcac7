"""Every tabular encoder by its name."""

from spinmark_models.clinical.base import TabularEncoder
from spinmark_models.clinical.ft_transformer import FTTransformer
from spinmark_models.clinical.mlp import ClinicalEncoder
from spinmark_models.config import ClinicalEncoderConfig
from spinmark_models.errors import InputError
from spinmark_models.tables import TableSchema

TABULAR_ENCODERS: dict[str, type[TabularEncoder]] = {
    "mlp": ClinicalEncoder,
    "ft_transformer": FTTransformer,
}


def build_clinical_encoder(schema: TableSchema, config: ClinicalEncoderConfig) -> TabularEncoder:
    """The tabular encoder that a configuration names.

    Args:
        schema: The columns, fitted on training rows.
        config: Its name and widths.

    Raises:
        InputError: There is no such encoder; the message lists those that there are. Or the
            configuration is impossible.
    """
    if config.name not in TABULAR_ENCODERS:
        raise InputError(
            f"Unknown tabular encoder {config.name!r}. Valid ones are {sorted(TABULAR_ENCODERS)}."
        )
    return TABULAR_ENCODERS[config.name](schema, config)
