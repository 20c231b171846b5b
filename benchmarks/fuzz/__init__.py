"""Random models, each wrapped and held to the laws of a wrapper: they hold, or a refusal tells the way out."""
