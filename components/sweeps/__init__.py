"""Many students from one set of soft targets: what is varied, who trains it, and what came of it."""
