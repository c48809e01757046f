"""Errors that a user can mend, one class for each thing to mend; images that fail are values."""

from typing import ClassVar


class SightstreamError(Exception):
    """Root of all errors that end a command with one clear line instead of a traceback.

    The message says what was wrong, the value, and what to do.
    """

    exit_code: ClassVar[int] = 1


class ConfigError(SightstreamError):
    """A setting is unknown, or its value is not allowed."""

    exit_code = 2


class InputError(SightstreamError):
    """A path, a folder or a data set that a command was given cannot be used."""

    exit_code = 2


class EnvironmentUnfitError(SightstreamError):
    """Python, Java, a port or a folder of this machine is not as it must be."""

    exit_code = 3


class AlreadyRunningError(SightstreamError):
    """Another process runs on the same home folder."""

    exit_code = 4


class ModelNotFoundError(SightstreamError):
    """No such model, version or alias is in the registry."""

    exit_code = 5


class ModelDamagedError(SightstreamError):
    """A model version's files do not match their checksums, or do not answer as a model must."""

    exit_code = 5


class RegistryUnavailableError(SightstreamError):
    """The registry does not answer, or is locked."""

    exit_code = 5


class CheckpointMismatchError(SightstreamError):
    """The stream's checkpoint and the predictions table tell different stories."""

    exit_code = 6


class StreamFailedError(SightstreamError):
    """The streaming query ended by an error that trying again does not cure."""


class BrokerUnavailableError(SightstreamError):
    """No Kafka broker answers at the address."""

    exit_code = 7


class BrokerRefusedError(BrokerUnavailableError):
    """A Kafka broker answers, and does not want this client."""


class TopicNotFoundError(SightstreamError):
    """The Kafka broker has no such topic."""

    exit_code = 7


class MessagesLostError(SightstreamError):
    """The Kafka broker has deleted messages that the stream never read."""

    exit_code = 8


def first_line(error: object) -> str:
    """The first line of an error's text; the name of its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
