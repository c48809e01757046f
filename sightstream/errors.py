"""Errors that a user can mend, one class for each thing to mend; images that fail are values."""

from typing import ClassVar


class SightstreamError(Exception):
    """Root of all errors that end a command with one clear line instead of a traceback.

    The message says what was wrong, the value, and what to do.
    """

    exit_code: ClassVar[int] = 1

    def __init_subclass__(cls, *, exit_code: int | None = None) -> None:
        cls.exit_code = exit_code or cls.exit_code


class ConfigError(SightstreamError, exit_code=2):
    """A setting is unknown, or its value is not allowed."""


class InputError(SightstreamError, exit_code=2):
    """A path, a folder or a data set that a command was given cannot be used."""


class EnvironmentUnfitError(SightstreamError, exit_code=3):
    """Python, Java, a port or a folder of this machine is not as it must be."""


class AlreadyRunningError(SightstreamError, exit_code=4):
    """Another process runs on the same home folder."""


class ModelNotFoundError(SightstreamError, exit_code=5):
    """No such model, version or alias is in the registry."""


class ModelDamagedError(SightstreamError, exit_code=5):
    """A model version's files do not match their checksums, or do not answer as a model must."""


class RegistryUnavailableError(SightstreamError, exit_code=5):
    """The registry does not answer, or is locked."""


class CheckpointMismatchError(SightstreamError, exit_code=6):
    """The stream's checkpoint and the predictions table tell different stories."""


class StreamFailedError(SightstreamError):
    """The streaming query ended by an error that trying again does not cure."""


class BrokerUnavailableError(SightstreamError, exit_code=7):
    """No Kafka broker answers at the address."""


class BrokerRefusedError(BrokerUnavailableError):
    """A Kafka broker answers, and does not want this client."""


class TopicNotFoundError(SightstreamError, exit_code=7):
    """The Kafka broker has no such topic."""


class MessagesLostError(SightstreamError, exit_code=8):
    """The Kafka broker has deleted messages that the stream never read, or the whole topic."""


def first_line(error: object) -> str:
    """The first line of an error's text; the name of its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def reason(error: object) -> str:
    """Return the line of Spark's long text that says what happened."""
    text = str(error).partition("=== Streaming Query ===")[0]
    lines = [line for line in text.splitlines() if line.strip() and not line[0].isspace()]
    return lines[-1][:500] if lines else type(error).__name__
