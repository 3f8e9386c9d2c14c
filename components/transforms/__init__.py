"""One file a transform: what a view may do to a sample, in integers only."""
