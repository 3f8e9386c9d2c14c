"""Data formats, one file each: how the files of a data version are laid out."""
