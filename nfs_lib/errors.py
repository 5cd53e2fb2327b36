"""What can go wrong through no fault of the code. Every message says: given, expected, what to do."""


class NfsError(Exception):
    """Base of all errors that a user can put right. `nfs` prints it as one line and exits with 2."""


class BadInput(NfsError):
    """An image, a sound, a video or an option can't be used."""


class MissingWeights(NfsError):
    """A file that the kit needs isn't there; the message names the command that makes or imports it."""


class CorruptWeights(NfsError):
    """A weight file differs from what the manifest says, or can't be read."""


class UnsafeCheckpoint(NfsError):
    """A checkpoint asks for code to be run when it is opened."""


class CantWrite(NfsError):
    """A file couldn't be written: the disk is full, or its folder has gone."""
