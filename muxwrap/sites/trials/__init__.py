"""Trying a pair of sites on the backbone itself: whether the answers that come back are the right ones."""
