"""Workloads: kinds of task, one file each."""
