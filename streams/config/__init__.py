"""The settings: one document, from defaults, a YAML file and the environment."""
