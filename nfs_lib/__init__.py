"""NeRFFaceSpeech, thin: one portrait and one clip of speech become a talking head that can turn.

Each module holds one idea of the paper; `README.md` maps them. Importing this package loads nothing heavy.
"""

__version__ = "0.1.0"
