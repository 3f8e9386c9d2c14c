"""Where artifacts lie: the scheme of the store's URL is the name of a file here."""
