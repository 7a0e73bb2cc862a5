"""The one exception family of the package: messages name the file or argument and the way out, in one line."""


class FoclipError(Exception):
    """Base of every error this package raises on purpose."""


class ImageError(FoclipError):
    """A picture cannot be read or written; the message names the file."""


class PromptError(FoclipError):
    """A prompt or prompt set is unusable."""


class EncoderError(FoclipError):
    """An encoder is unknown, its weights are out of reach, or they are damaged."""


class UsageError(FoclipError):
    """Arguments that are wrong on their own or do not fit together."""


class OutputError(FoclipError):
    """A result cannot be written: the disk is full, or the folder takes no files."""


class SourceError(FoclipError):
    """A data set that was there when work on it began is gone; what is finished is kept."""


class PromptTruncationWarning(UserWarning):
    """A prompt is longer than the encoder's context; only its beginning counts."""


class CheckpointWarning(UserWarning):
    """A checkpoint does not tell all that its scores depend on; this is what was taken."""


class CompileWarning(UserWarning):
    """An image tower that was to be compiled goes on as it is."""
