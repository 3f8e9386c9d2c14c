"""Forms in which rows of logits are stored, one module a family."""
