"""What company tells of a row, and what it does to it, per strategy and n."""
