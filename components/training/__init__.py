"""One training loop, for teachers and students alike; `loop` runs it, the other modules are its parts."""
