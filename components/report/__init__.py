"""What a run shows to people: tables, plots, one page; rendered from artifacts and never part of a key."""
