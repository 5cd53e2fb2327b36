"""Random and mutated files thrown at every loader: `make fuzz`.

`targets` holds one function per loader, `seeds` writes the small valid files that the mutations start from, `child` runs one
target under atheris, `run` watches the children, one after the other, and keeps the figures.
"""
