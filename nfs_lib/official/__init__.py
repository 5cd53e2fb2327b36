"""The official checkpoints that a user brings: read without running anything, recognised, and written as safetensors.

`readers.read` opens a file of any kind that they come in, `files.OFFICIAL` lists which there are and what becomes of them,
`importing.import_file` does the work of `nfs weights import`.
"""
