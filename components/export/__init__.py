"""Forms in which a student leaves: one file each."""
