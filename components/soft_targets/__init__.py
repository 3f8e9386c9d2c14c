"""The soft-target store: teacher logits written once, chosen codec, read in any order."""
