"""Data under version control: the door to DVC, formats, splits and the packed artifact."""
