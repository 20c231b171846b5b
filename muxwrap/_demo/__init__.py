"""A small network trained bare and multiplexed on real digits: what ``muxwrap demo`` and ``make demo`` run."""
