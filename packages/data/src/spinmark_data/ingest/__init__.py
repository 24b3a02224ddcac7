"""From a release (DICOM or NIfTI files and tables) to a cohort."""
