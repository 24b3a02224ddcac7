"""The artefact panel under its earlier name; it lives in `description.panel`."""

from spinmark_biomarkers.phenotypes.description.panel import artefact_panel, cramers_v

__all__ = ["artefact_panel", "cramers_v"]
