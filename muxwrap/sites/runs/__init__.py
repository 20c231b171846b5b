"""Runs of a backbone on few rows, bare and mixed, and how near their answers are."""
