"""What a model that was just built has to hold, and what a row of it costs."""
