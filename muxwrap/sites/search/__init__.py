"""Going through candidates, the most promising ones first, until a pair works."""
