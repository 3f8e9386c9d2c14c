"""Tests of the gate: what a candidate must keep before it may become champion, one file each."""
