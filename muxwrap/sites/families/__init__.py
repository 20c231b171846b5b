"""What is known of the models of one library: an example input, and candidates for sites."""
