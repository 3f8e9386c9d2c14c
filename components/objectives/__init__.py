"""Objectives: how a student is pulled toward its teacher, one file each."""
