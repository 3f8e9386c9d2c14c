"""The stories and the doors: flows read top to bottom, components do the work."""
