"""Checks for the notebooks' exercises, one module a notebook: `from nfs_lib.exercises import alignment as check`."""
