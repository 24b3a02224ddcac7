"""One thin module a subcommand: read a config, call the packages, write an artefact."""
