"""What happens inside one call of a multiplexed model, in the order of a batch."""
