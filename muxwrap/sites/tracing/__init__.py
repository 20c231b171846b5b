"""One bare run of a backbone written down, and what is read from it: places, sides, what each module costs."""
