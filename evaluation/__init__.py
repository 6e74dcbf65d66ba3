"""How good a model is: counts, metrics, the official protocol, inference over a data set, and reports."""
