"""How many random groupings a score is made of, and their seeds."""

GROUPINGS = 5  # with the seeds from 0; grouping does not matter to a bare model, which has one
SELECTION = 1_000_000  # seed of the groupings that choose an epoch or a recipe; those that are reported have others
