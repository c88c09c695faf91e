"""What a sweep is turned into: numbers, a table, a plot, a video."""
