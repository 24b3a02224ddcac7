"""The cohort artefact: its store of volumes, its tables and its reader."""
