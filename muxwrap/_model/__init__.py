"""What a wrapped model is besides its call: its attributes, its files, its views and its numbers of rows."""
