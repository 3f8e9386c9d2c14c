"""Promotion as a transaction: a journal that says who is champion, and aliases that follow it."""
