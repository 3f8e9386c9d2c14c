"""The artifact store: every derived result, once, by content; the only cache."""
