"""Model families: one file each; modules with an underscore are their networks."""
