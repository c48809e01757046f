"""Settings: defaults < sightstream.toml < SIGHTSTREAM_* < flags, validated once."""

import difflib
import os
import re
import tomllib
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from sightstream.errors import ConfigError
from sightstream.images.limits import Limits

ENV_PREFIX = "SIGHTSTREAM_"
FILE = Path("sightstream.toml")

_MOST_SHOWN = 200  # letters of a wrong value

_Source = Literal["folder", "kafka"]
_MASTER = r"^(local(\[(\*|[1-9][0-9]*)(,[0-9]+)?\])?|yarn|(spark|k8s)://.+)$"
_NAME = r"[\w.-]*\w[\w.-]*"
"""Of a model, which is a folder's name too: neither . nor .."""
_WHICH = f"^{_NAME}(@[\\w.-]+)?$"
_WHICHES = ["leaf@challenger", "pests"]
_TOPIC = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,248}$"
_TOPICS = ["images", "site_2.images"]
_URL = r"""^$|^https?://[^\s@"'\\/]+(/[^\s"'\\]*)?$"""
_PATH = r"\$(\.[\w-]+|\[[0-9]{1,9}\])+"
_URI = re.compile(r"[a-z][a-z0-9+.-]*://.")
_SCHEME = re.compile(r"(?i)(s3a?|gs|gcs|az|adl|abfss?|wasbs?|hdfs|https?|file):")
_WHOLE = re.compile(r"(?i)(file:///|(?!file)[a-z0-9]+://)[^/]")
_HIDDEN = "**********"
_SIGNED_IN = re.compile(r"(//[^/\s:@]*):[^/\s]*@")
_VALUES = ["image", "base64", "s3-event", "json:$.image", "avro:image.avsc:$.image"]

SECRET = re.compile(r"secret|password|token|access[.]?key", re.IGNORECASE)
"""Found in the names of Spark's options that hold secrets, as `spark.redaction.regex` has it."""


def shown(name: str, value: Any) -> Any:
    """Return the value of a setting, or of an option of Spark, as others may read it."""
    field = Settings.model_fields.get(name)
    if value and (field.annotation is SecretStr if field else SECRET.search(name)):
        return _HIDDEN
    if isinstance(value, dict):
        return {each: shown(each, found) for each, found in value.items()}
    return _SIGNED_IN.sub(rf"\1:{_HIDDEN}@", value) if isinstance(value, str) else value


@dataclass(frozen=True)
class Broker:
    """How to reach a Kafka broker; `Settings.kafka_*` describe the fields."""

    servers: str
    security: str = "PLAINTEXT"
    ca: Path | None = None
    mechanism: str = "SCRAM-SHA-512"
    user: str = ""
    password: str = field(default="", repr=False)
    certificate: Path | None = None
    key: Path | None = None
    key_password: str = field(default="", repr=False)
    token_url: str = ""
    token_ca: Path | None = None
    scope: str = ""


@dataclass(frozen=True)
class Acceptance:
    """When a file that has arrived is taken; `Settings` describes the fields."""

    settle_seconds: float
    settle_closed: bool = False
    ignore: tuple[str, ...] = ()


class Settings(BaseSettings):
    """What a user can set; `sightstream config show` prints the sentence below each field."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    home: Path = Path("data")
    """the folder that holds all state"""
    model: str = Field("", pattern=f"^({_NAME})?$", examples=["starter", "leaf-2.1"])
    """the registered model to serve; empty: the only one there is"""
    engine: Literal[
        "auto", "onnx", "int8", "openvino", "openvino-int8", "openvino-bf16", "keras"
    ] = "auto"
    """what runs the model; auto takes the fastest that agrees"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where ONNX Runtime runs; auto takes a GPU where it can"""
    shadow: str = Field("", pattern=f"^$|{_WHICH}", examples=_WHICHES)
    """a challenger that answers beside the model, NAME@ALIAS; empty: none"""
    also: Annotated[tuple[Annotated[str, Field(pattern=_WHICH)], ...], NoDecode] = Field(
        (), examples=_WHICHES
    )
    """further models that answer beside it, NAME or NAME@ALIAS"""
    canary: float = Field(0.0, ge=0, le=1)
    """share of the images that the shadow answers for in the model's place, such as 5%"""
    registry_uri: str = ""
    """MLflow tracking server; empty: SQLite and files under home"""
    predictions_uri: str = ""
    """folder or uri of the predictions table; empty: under home"""
    table_history: str = Field(
        "1d", pattern=r"^([1-9][0-9]{1,3}m|[1-9][0-9]{0,3}[hd])$", examples=["12h", "7d"]
    )
    """time that readers of the table's changes may be away, in minutes (10m), hours or days"""
    master: str = Field("local[*,4]", pattern=_MASTER, examples=["local[4]", "spark://host:7077"])
    """Spark master: local[*,4], spark://host:7077, yarn or k8s://..."""
    spark: dict[str, str] = {}
    """further options of Spark by name, which win over ours"""
    driver_memory: str = Field("1g", pattern=r"^[1-9][0-9]{0,5}[mg]$", examples=["512m", "2g"])
    """heap of Spark's driver, such as 1g"""
    images_per_batch: int = Field(20_000, ge=1, le=1_000_000)
    """images that a micro-batch aims at"""
    max_image_bytes: int = Field(20 * 2**20, ge=1, le=2**31 - 1)
    """larger files are rejected, in bytes"""
    max_image_pixels: int = Field(120_000_000, ge=1, le=2**28)
    """images of more pixels are rejected"""
    image_seconds: float = Field(30.0, ge=0.1, le=3600)
    """longest time for an image once it is read, in seconds; one that takes longer is rejected"""
    top_k: int = Field(3, ge=1, le=100)
    """labels a row carries, best first"""
    settle_seconds: float = Field(2.0, ge=0, le=3600)
    """rest before a file is taken that is empty or has a doubtful name"""
    settle_closed: bool = False
    """let every file rest so, for writers that open a file anew for each part of it"""
    ignore: Annotated[tuple[str, ...], NoDecode] = ()
    """glob patterns of further names in the inbox that are left alone"""
    retention_days: float = Field(0, ge=0, le=36_500)
    """days that images are kept once they were taken, also parts of one; 0: for ever"""
    inbox_uri: str = ""
    """folder of a bucket whose new objects are classified, such as s3://photos/incoming/, in place
    of the inbox under home"""
    inbox_look_seconds: float = Field(5.0, ge=0.1, le=3600)
    """seconds between two looks for new keys in a bucket"""
    inbox_list_seconds: float = Field(300.0, ge=0.1, le=7 * 86_400)
    """longest time between two full listings of a bucket, in seconds"""
    inbox_topic: str = Field("", pattern=f"^$|{_TOPIC}", examples=_TOPICS)
    """Kafka topic with the bucket's S3 notifications; empty: none"""
    inbox_done: str = ""
    """what happens to an object once its row is committed: tag, or the uri of a folder that it is
    moved to; empty: nothing"""
    source: Annotated[tuple[_Source, ...], NoDecode] = Field(("folder",), min_length=1)
    """where images come from: folder, kafka or both"""
    kafka_servers: str = Field("localhost:9092", min_length=1)
    """Kafka's bootstrap servers, separated by commas"""
    kafka_topic: str = Field("images", pattern=_TOPIC, examples=_TOPICS)
    """the topic that images come from"""
    kafka_value: str = Field(
        "image", pattern=f"^(image|base64|s3-event|json:{_PATH}|avro:.+:{_PATH})$", examples=_VALUES
    )
    """what a message's value is: image, base64, s3-event, json:$.path or avro:SCHEMA:$.path"""
    kafka_predictions_topic: str = Field("", pattern=f"^$|{_TOPIC}", examples=_TOPICS)
    """the topic that new rows go to; empty: none"""
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Kafka's security protocol"""
    kafka_ca: Path | None = None
    """PEM file of the authority that Kafka's certificate must come from"""
    kafka_ssl_certificate: Path | None = None
    """PEM file of the certificate that this client shows Kafka"""
    kafka_ssl_key: Path | None = None
    """PEM file of its key; unset: in the certificate's file"""
    kafka_ssl_key_password: SecretStr = SecretStr("")
    """password of that key, where it is encrypted; better in the environment than in a file"""
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = (
        "SCRAM-SHA-512"
    )
    """how to log in to Kafka"""
    kafka_user: str = ""
    """the user to log in to Kafka as; with OAUTHBEARER the client's id"""
    kafka_password: SecretStr = SecretStr("")
    """its password, or the client's secret; better in the environment than in a file"""
    kafka_oauth_token_url: str = Field("", pattern=_URL, examples=["https://login.site/token"])
    """token endpoint of the OAuth server that Kafka trusts"""
    kafka_oauth_ca: Path | None = None
    """PEM file of the authority that its certificate must come from; unset: the system's"""
    kafka_oauth_scope: str = ""
    """scope that the token is asked for; empty: none"""
    kafka_starting_offsets: Literal["earliest", "latest"] = "earliest"
    """where the first start of a stream begins in the topic"""
    kafka_fail_on_data_loss: bool = True
    """stop when messages are gone that were never read"""
    kafka_isolation_level: Literal["read_committed", "read_uncommitted"] = "read_committed"
    """whether messages of open and aborted transactions are left out"""
    kafka_max_offsets: int = Field(0, ge=0, le=2**31 - 1)
    """messages that a micro-batch takes at most; 0: as memory allows"""
    kafka_uri_prefixes: Annotated[tuple[str, ...], NoDecode] = ()
    """uris below which messages may name their image instead of carrying it"""
    metrics_host: str = "127.0.0.1"
    """address of the metrics endpoint"""
    metrics_port: int = Field(9108, ge=0, le=65535)
    """port of the metrics endpoint; 0: any free one"""
    web_host: str = "127.0.0.1"
    """address of the page; it knows no users"""
    web_port: int = Field(8501, ge=0, le=65535)
    """port of the page; 0: any free one"""
    web_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """further names that browsers reach the page by, such as that of a proxy in front of it"""
    web_promote: Literal["loopback", "always", "never"] = "loopback"
    """where the page may promote models and roll them back"""

    @field_validator("*", mode="before")
    @classmethod
    def _is_possible(cls, value: Any, info: ValidationInfo) -> Any:
        """A truth value is no number, and there are texts that no file and no address can have."""
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and kind in {int, float}:
            raise ValueError(f"it takes a number, not {str(value).lower()}")
        if isinstance(value, str | Path):
            _require_text(str(value))
        return value

    @field_validator("home", mode="before")
    @classmethod
    def _is_named(cls, value: Any) -> Any:
        if value == "":
            raise ValueError("it is empty; name a folder, or . for the current one")
        return value

    @field_validator("registry_uri", "predictions_uri", "inbox_uri", "inbox_done")
    @classmethod
    def _is_split(cls, value: str) -> str:
        try:
            urlsplit(value)
        except ValueError as error:
            raise ValueError(f"it is no uri: {error}") from None
        return value

    @field_validator("predictions_uri")
    @classmethod
    def _is_whole(cls, value: str) -> str:
        """A uri that names nothing is no folder of that name, such as s3:, in the current one."""
        if _SCHEME.match(value) and not _WHOLE.match(value):
            raise ValueError(f"{value} names no place; give s3://bucket/folder, or a path")
        return value

    @field_validator("home", "predictions_uri")
    @classmethod
    def _is_of_a_user(cls, value: Any) -> Any:
        try:
            Path(value).expanduser()
        except RuntimeError:
            raise ValueError(f"{value} names the folder of a user who is not known here") from None
        return value

    @field_validator("driver_memory")
    @classmethod
    def _is_enough(cls, value: str) -> str:
        if value.endswith("m") and int(value[:-1]) < 512:
            raise ValueError(f"Spark does not start with {value}; give it 512m or more")
        return value

    @field_validator("metrics_host", "web_host")
    @classmethod
    def _is_host(cls, value: str) -> str:
        try:
            value.encode("idna")
        except UnicodeError:
            raise ValueError(f"{value!r} is neither the name of a host nor an address") from None
        return value

    @field_validator(
        "kafka_ca", "kafka_ssl_certificate", "kafka_ssl_key", "kafka_oauth_ca", mode="before"
    )
    @classmethod
    def _unset(cls, value: Any) -> Any:
        """An empty variable of the environment sets nothing."""
        return value or None

    @field_validator("canary", mode="before")
    @classmethod
    def _share(cls, value: Any) -> Any:
        """A share is a number or a percentage."""
        with suppress(ValueError):
            return float(value[:-1]) / 100 if str(value).endswith("%") else value
        return value

    @field_validator("canary")
    @classmethod
    def _needs_shadow(cls, value: float, info: ValidationInfo) -> float:
        if value and not info.data.get("shadow", "-"):
            raise ValueError("it is the share of a shadow: set shadow too")
        return value

    @field_validator("source", "ignore", "also", "kafka_uri_prefixes", "web_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Several values in one variable of the environment are separated by commas."""
        if isinstance(value, str):
            return tuple(filter(None, map(str.strip, value.split(","))))
        return value

    @field_validator("ignore")
    @classmethod
    def _names(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for each in patterns:
            if "/" in each or not each.strip("*"):
                raise ValueError(f"{each} is no pattern of a name: without /, and not * alone")
        return patterns

    @field_validator("kafka_predictions_topic")
    @classmethod
    def _is_another(cls, value: str, info: ValidationInfo) -> str:
        if "kafka" in info.data.get("source", ()) and value == info.data.get("kafka_topic"):
            raise ValueError(f"images come from {value}, and each row would be one: name another")
        return value

    @field_validator("kafka_uri_prefixes")
    @classmethod
    def _are_uris(cls, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        for each in prefixes:
            if not _URI.match(each):
                raise ValueError(
                    f"{each!r} is no uri of a folder, such as file:///srv/photos/ or s3://photos/"
                )
        return prefixes

    @property
    def root(self) -> Path:
        """The home folder as an absolute path."""
        return self.home.expanduser().absolute()

    @property
    def inbox(self) -> Path:
        """Where images are dropped."""
        return self.root / "inbox"

    @property
    def images(self) -> Path:
        """Where accepted images live, one folder a day."""
        return self.root / "images"

    @property
    def manifests(self) -> Path:
        """Where the intake tells the stream what arrived."""
        return self.root / "manifests"

    @property
    def staging(self) -> Path:
        """Where files are completed before they are moved, on the same file system as the inbox."""
        return self.root / "staging"

    @property
    def predictions(self) -> str:
        """The predictions table: an absolute path, or a uri."""
        place = self.predictions_uri.rstrip("/") or str(self.root / "predictions")
        return place if "://" in place else str(Path(place).expanduser().absolute())

    @property
    def bucket(self) -> Path:
        """What is known of the buckets that images come from."""
        return self.root / "bucket"

    @property
    def stuck(self) -> Path:
        """Where the intake writes down what it cannot take."""
        return self.root / "stuck.json"

    @property
    def stream(self) -> Path:
        """File in which a running stream notes what `status` tells."""
        return self.root / "stream.json"

    @property
    def history(self) -> timedelta:
        """How long the table keeps its log and files for readers that are away."""
        units = {"m": "minutes", "h": "hours", "d": "days"}
        return timedelta(**{units[self.table_history[-1]]: int(self.table_history[:-1])})

    @property
    def labels(self) -> Path:
        """The labels table."""
        return self.root / "labels"

    def checkpoint(self, source: str) -> Path:
        """The checkpoint of the streaming query that reads a source."""
        return self.root / "checkpoints" / source

    @property
    def tables(self) -> Path:
        """Where the tables of backfills lie, by their names."""
        return self.root / "tables"

    @property
    def registry(self) -> Path:
        """MLflow's database and artifacts when no tracking server is set."""
        return self.root / "registry"

    @property
    def registry_address(self) -> str:
        """Uri of the registry that is in use: the configured one, or SQLite under home."""
        return self.registry_uri or f"sqlite:///{self.registry / 'mlflow.db'}"

    @property
    def has_registry(self) -> bool:
        """False where the registry is under home, and nothing was published to it yet."""
        return bool(self.registry_uri) or (self.registry / "mlflow.db").exists()

    @property
    def logs(self) -> Path:
        """Log files, Spark's and TensorFlow's included."""
        return self.root / "logs"

    @property
    def kafka(self) -> Broker:
        """How to reach the Kafka broker."""
        return Broker(
            self.kafka_servers, self.kafka_security, self.kafka_ca, self.kafka_sasl_mechanism,
            self.kafka_user, self.kafka_password.get_secret_value(),
            self.kafka_ssl_certificate, self.kafka_ssl_key,
            self.kafka_ssl_key_password.get_secret_value(),
            self.kafka_oauth_token_url, self.kafka_oauth_ca, self.kafka_oauth_scope,
        )  # fmt: skip

    @property
    def acceptance(self) -> Acceptance:
        """When a file that has arrived is taken."""
        return Acceptance(self.settle_seconds, self.settle_closed, self.ignore)

    @property
    def limits(self) -> Limits:
        """What an image may weigh, and the time it may take."""
        return Limits(self.max_image_bytes, self.max_image_pixels, self.image_seconds)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, *_: Any, **__: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
        """Flags win over the environment, which wins over the file."""
        return init_settings, env_settings, _File(settings_cls, FILE)


class _File(TomlConfigSettingsSource):
    """The file, which an editor may have begun with a byte order mark."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        try:
            text = file_path.read_text("utf-8-sig")
        except UnicodeError:
            text = "\0"
        if "\0" in text:  # UTF-16 without a mark has it for each letter
            raise ConfigError(f"{FILE} cannot be read: it is not in UTF-8; save it as UTF-8")
        try:
            return tomllib.loads(text)
        except RecursionError:
            raise ConfigError(f"{FILE} cannot be read: its values are nested too deep") from None


def load(**flags: Any) -> Settings:
    """Reads and validates the settings; a flag that is None was not given.

    Raises:
        ConfigError: a key does not exist, a value is not allowed, or sightstream.toml is not TOML.
    """
    if os.path.lexists(FILE) and not FILE.is_file():
        what = "is a link to a file that is not there" if FILE.is_symlink() else "is not a file"
        raise ConfigError(f"{FILE.absolute()} {what}; write the settings there, or remove it")
    for name in os.environ:
        if name.startswith(ENV_PREFIX):
            _known(name.removeprefix(ENV_PREFIX).lower(), name)
    try:
        return Settings(**{key: value for key, value in flags.items() if value is not None})
    except ValidationError as error:
        first = {each["loc"][0]: dict(each) for each in reversed(error.errors())}  # of each field
        raise ConfigError("; ".join(map(_explain, reversed(first.values())))) from None
    except SettingsError as error:
        raise ConfigError(f"{error}; it takes JSON") from None
    except (ValueError, OSError) as error:
        raise ConfigError(f"{FILE} cannot be read: {error}") from None


def _require_text(text: str) -> None:
    """Raise ValueError for what UTF-8 or C's functions cannot hold; a secret is not repeated."""
    try:
        fits = b"\0" not in text.encode()
    except UnicodeEncodeError:
        fits = False
    if not fits:
        raise ValueError("it is no text in UTF-8, or holds a zero byte")


def _known(key: str, shown: str) -> None:
    if key in Settings.model_fields:
        return
    hint = "see: sightstream config show"
    if near := difflib.get_close_matches(key, Settings.model_fields, n=1, cutoff=0.5):
        hint = f"did you mean {near[0] if shown == key else ENV_PREFIX + near[0].upper()}?"
    raise ConfigError(f"there is no setting {shown}; {hint}")


def _explain(error: dict[str, Any]) -> str:
    key = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        _known(key, key)
    if error["type"] == "value_error":  # a sentence of ours
        return f"{key}: {error['ctx']['error']}"
    sentence = error["msg"][0].lower() + error["msg"][1:]
    if error["type"] == "string_pattern_mismatch":  # a pattern is no sentence
        sentence = f"it must be such as {' or '.join(Settings.model_fields[key].examples or [])}"
    given = shown(str(error["loc"][-1]), error["input"])
    return f"{key}: {sentence}" + (f", not {given!r:.{_MOST_SHOWN}}" if given != _HIDDEN else "")
