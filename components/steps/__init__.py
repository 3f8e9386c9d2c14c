"""The pure steps, one file each: what a step reads, which code computes it, and the function that does.

Importing a step is light (no torch, no great_expectations): heavy imports stand inside its functions.
"""
