"""config: four places to set a value, one order, and errors that name the key."""

import re
from pathlib import Path

import pytest

from sightstream import config
from sightstream.errors import ConfigError


@pytest.fixture(autouse=True)
def here(tmp_path, settings):  # `settings` cleans the environment and changes to tmp_path
    return tmp_path


def write(text):
    config.FILE.write_text(text, encoding="utf-8")


def test_without_anything_set_the_defaults_hold():
    loaded = config.load()
    assert (loaded.top_k, loaded.model, loaded.home) == (3, "", Path("data"))


def test_the_file_wins_over_the_defaults():
    write("top_k = 5")
    assert config.load().top_k == 5


def test_the_environment_wins_over_the_file(monkeypatch):
    write("top_k = 5")
    monkeypatch.setenv("SIGHTSTREAM_TOP_K", "7")
    assert config.load().top_k == 7


def test_a_flag_wins_over_the_environment(monkeypatch):
    write("top_k = 5")
    monkeypatch.setenv("SIGHTSTREAM_TOP_K", "7")
    assert config.load(top_k=9).top_k == 9


def test_a_flag_that_was_not_given_hides_nothing(monkeypatch):
    monkeypatch.setenv("SIGHTSTREAM_TOP_K", "7")
    assert config.load(top_k=None).top_k == 7


def test_each_place_adds_to_the_others(monkeypatch):
    write('model = "leaf"\nengine = "keras"')
    monkeypatch.setenv("SIGHTSTREAM_ENGINE", "onnx")
    loaded = config.load(top_k=2)
    assert (loaded.model, loaded.engine, loaded.top_k, loaded.metrics_port) == (
        "leaf", "onnx", 2, 9108,
    )  # fmt: skip


def test_the_file_of_the_current_folder_is_read(here, monkeypatch):
    write("top_k = 5")
    other = here / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    assert config.load().top_k == 3


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("topk", "top_k"), ("hom", "home"), ("image_per_batch", "images_per_batch")],
)
def test_an_unknown_key_in_the_file_suggests_the_nearest(wrong, meant):
    write(f"{wrong} = 1")
    with pytest.raises(ConfigError, match=f"no setting {wrong}; did you mean {meant}\\?"):
        config.load()


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("SIGHTSTREAM_TOPK", "SIGHTSTREAM_TOP_K"),
        ("SIGHTSTREAM_HOM", "SIGHTSTREAM_HOME"),
        ("SIGHTSTREAM_MODLE", "SIGHTSTREAM_MODEL"),
    ],
)
def test_an_unknown_variable_suggests_the_nearest(monkeypatch, wrong, meant):
    monkeypatch.setenv(wrong, "1")
    with pytest.raises(ConfigError, match=f"no setting {wrong}; did you mean {meant}\\?"):
        config.load()


@pytest.mark.parametrize("key", ["STREAM", "TREAM", "SIGHT"])
def test_a_suggested_variable_exists_whatever_was_written(monkeypatch, key):
    monkeypatch.setenv(f"SIGHTSTREAM_{key}", "1")
    with pytest.raises(ConfigError) as caught:
        config.load()
    _, _, suggestion = str(caught.value).partition("did you mean ")
    known = {f"SIGHTSTREAM_{name.upper()}?" for name in config.Settings.model_fields}
    assert suggestion in {"", *known}


def test_a_key_like_no_other_is_sent_to_the_list_of_settings(monkeypatch):
    monkeypatch.setenv("SIGHTSTREAM_ZZZ", "1")
    with pytest.raises(ConfigError, match="SIGHTSTREAM_ZZZ; see: sightstream config show"):
        config.load()


def test_other_programs_variables_do_not_matter(monkeypatch):
    monkeypatch.setenv("SIGHT_TOPK", "1")
    assert config.load().top_k == 3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("top_k", "many"),
        ("top_k", "0"),
        ("engine", "torch"),
        ("settle_seconds", "-1"),
        ("driver_memory", "lots"),
        ("metrics_port", "65536"),
        ("model", "a/b"),
        ("master", "spak://host:7077"),
        ("master", "host:7077"),
        ("master", "local[0]"),
    ],
)
def test_a_wrong_value_names_its_key_and_itself(monkeypatch, key, value):
    monkeypatch.setenv(f"SIGHTSTREAM_{key.upper()}", value)
    with pytest.raises(ConfigError, match=rf"^{key}: .*not '{re.escape(value)}'$"):
        config.load()


@pytest.mark.parametrize(
    "text",
    [
        "kafka_password = 8437215", 'kafka_ssl_key_password = ["8437215"]',
        '[spark]\n"spark.hadoop.fs.s3a.secret.key" = 8437215',
        'kafka_oauth_token_url = "https://me:8437215@login.site/token"',
    ],
)  # fmt: skip
def test_a_wrong_value_that_holds_a_secret_is_not_repeated(text):
    write(text)
    with pytest.raises(ConfigError, match=r"it must be|should be") as raised:
        config.load()
    assert "8437215" not in str(raised.value)


def test_what_is_shown_of_settings_holds_no_secret():
    spark = {"spark.hadoop.fs.s3a.access.key": "hunter2", "spark.cores.max": "2"}
    loaded = config.load(
        registry_uri="https://me:hunter2@mlflow.site", kafka_password="hunter2", spark=spark,
        kafka_oauth_token_url="https://login.site/token", model="leaf",
        predictions_uri="abfss://tables@mine.dfs.core.windows.net/rows",
    )  # fmt: skip
    told = loaded.model_dump(mode="json")
    found = {key: config.shown(key, value) for key, value in told.items()}
    assert "hunter2" not in str(found)
    assert {key for key in told if found[key] != told[key]} == {"registry_uri", "spark"}
    assert found["registry_uri"] == "https://me:**********@mlflow.site"
    assert found["spark"]["spark.cores.max"] == "2"


def test_the_values_of_a_choice_are_named_as_they_are_written(monkeypatch):
    monkeypatch.setenv("SIGHTSTREAM_KAFKA_SECURITY", "ssl")
    with pytest.raises(ConfigError, match=r"^kafka_security: input .*'SSL'.*, not 'ssl'$"):
        config.load()


def test_all_wrong_values_are_named_at_once():
    write('top_k = "x"\nengine = "y"')
    with pytest.raises(ConfigError, match=r"engine: .*top_k: "):
        config.load()


def test_a_wrong_flag_names_its_key():
    with pytest.raises(ConfigError, match=r"^images_per_batch: "):
        config.load(images_per_batch=0)


@pytest.mark.parametrize("content", [b"top_k = ", b"= 3", b"[", b'model = "\xff"'])
def test_a_broken_file_is_an_error_that_names_it(content):
    config.FILE.write_bytes(content)
    with pytest.raises(ConfigError, match=r"sightstream\.toml cannot be read"):
        config.load()


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValueError, match="frozen"):
        config.load().top_k = 4


def test_a_home_of_the_user_is_an_absolute_path(monkeypatch):
    monkeypatch.setenv("HOME", "/somebody")
    assert config.load(home="~/x").inbox == Path("/somebody/x/inbox")


def test_options_of_spark_are_a_table_of_the_file_or_json_in_the_environment(monkeypatch):
    write('[spark]\n"spark.executor.memory" = "2g"')
    assert config.load().spark == {"spark.executor.memory": "2g"}
    monkeypatch.setenv("SIGHTSTREAM_SPARK", '{"spark.executor.cores": "4"}')
    assert config.load().spark["spark.executor.cores"] == "4"
    monkeypatch.setenv("SIGHTSTREAM_SPARK", "spark.executor.cores=4")
    with pytest.raises(ConfigError, match=r'"spark" .* JSON'):
        config.load()


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("", "/somebody/x/predictions"),
        ("s3://lake/predictions/", "s3://lake/predictions"),
        ("/elsewhere/table/", "/elsewhere/table"),
        ("~/table", "/somebody/table"),
    ],
)
def test_the_table_is_under_home_or_where_its_uri_says(monkeypatch, uri, place):
    monkeypatch.setenv("HOME", "/somebody")
    assert config.load(home="~/x", predictions_uri=uri).predictions == place


def test_names_to_leave_alone_are_a_list_or_separated_by_commas(monkeypatch):
    write('ignore = ["*.thumb", "proxies"]')
    assert config.load().acceptance.ignore == ("*.thumb", "proxies")
    monkeypatch.setenv("SIGHTSTREAM_IGNORE", "a,*b")
    assert config.load().ignore == ("a", "*b")


@pytest.mark.parametrize("pattern", ["cache/", "a/*.jpg", "*", "**"])
def test_a_pattern_that_is_none_of_a_name_is_refused(pattern):
    with pytest.raises(ConfigError, match=r"^ignore: .* is no pattern of a name"):
        config.load(ignore=(pattern,))


def test_a_value_that_is_wrong_in_two_ways_is_named_once():
    with pytest.raises(ConfigError) as raised:
        config.load(source=["ftp"])
    assert str(raised.value) == "source: input should be 'folder' or 'kafka', not 'ftp'"


@pytest.mark.parametrize("written", [b"\xef\xbb\xbftop_k = 5\r\n", b"top_k = 5\n"])
def test_a_file_of_another_editor_is_read(tmp_path, monkeypatch, written):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sightstream.toml").write_bytes(written)
    assert config.load().top_k == 5


def test_a_file_that_is_nested_too_deep_is_told_in_a_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sightstream.toml").write_text(f"spark = {'[' * 3000}{']' * 3000}")
    with pytest.raises(
        ConfigError, match=r"^sightstream\.toml cannot be read: .* nested too deep$"
    ):
        config.load()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_a_file_in_another_encoding_is_told_its_cure(tmp_path, monkeypatch, encoding):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sightstream.toml").write_bytes('model = "L\u00e9af"\n'.encode(encoding))
    with pytest.raises(
        ConfigError, match=r"toml cannot be read: it is not in UTF-8; save it as UTF-8$"
    ):
        config.load()


def test_what_is_no_file_is_told_and_not_taken_for_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "sightstream.toml"
    file.symlink_to("away.toml")
    with pytest.raises(ConfigError, match=f"^{file} is a link to a file that is not there; write"):
        config.load()
    file.unlink()
    file.mkdir()
    with pytest.raises(ConfigError, match=f"^{file} is not a file; write the settings there, or"):
        config.load()


@pytest.mark.parametrize(
    "written", ["top_k = 5".encode("utf-16"), b"\x00", b"\xff", b"top_k: 5", b"[top_k]\n"]
)
def test_a_file_that_is_no_toml_is_told_in_a_line(tmp_path, monkeypatch, written):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sightstream.toml").write_bytes(written)
    with pytest.raises(ConfigError) as told:
        config.load()
    assert str(told.value).count("\n") == 0


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("table_history", "7days", "12h or 7d"),
        ("driver_memory", "4 GB", "512m or 2g"),
        ("kafka_topic", "my images", "images or site_2.images"),
        ("kafka_predictions_topic", "a/b", "images or site_2.images"),
        ("model", "my model", "starter or leaf-2.1"),
        ("master", "locale", "local[4] or spark://host:7077"),
    ],
)
def test_a_value_of_another_form_is_told_by_examples_and_no_pattern(key, value, meant):
    with pytest.raises(ConfigError) as told:
        config.load(**{key: value})
    assert str(told.value) == f"{key}: it must be such as {meant}, not {value!r}"


def test_every_setting_with_a_pattern_has_examples_that_are_allowed():
    for key, field in config.Settings.model_fields.items():
        if any(getattr(each, "pattern", None) for each in field.metadata):
            assert field.examples
            for example in field.examples:
                assert getattr(config.load(**{key: example}), key) == example


@pytest.mark.parametrize(("said", "share"), [("5%", 0.05), ("0.05", 0.05), ("12.5%", 0.125)])
def test_a_share_is_a_number_or_a_percentage(said, share):
    assert config.load(shadow="leaf@challenger", canary=said).canary == pytest.approx(share)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"canary": "5%"}, "canary: it is the share of a shadow: set shadow too$"),
        ({"shadow": "leaf@x", "canary": "101%"}, "canary: input should be less than or equal to 1"),
        ({"shadow": "leaf@x", "canary": "much%"}, "canary: input should be a valid number"),
        ({"shadow": "leaf@"}, "shadow: it must be such as leaf@challenger or pests, not 'leaf@'"),
        ({"also": "leaf,a/b"}, "also: it must be such as leaf@challenger or pests, not 'a/b'"),
    ],
)
def test_models_beside_the_first_are_named_as_everywhere(flags, sentence):
    with pytest.raises(ConfigError, match=sentence):
        config.load(**flags)


def test_several_models_are_named_with_commas():
    assert config.load(also="pests,leaf@2").also == ("pests", "leaf@2")


@pytest.mark.parametrize("key", ["top_k", "retention_days", "metrics_port", "canary"])
def test_a_truth_value_is_no_number(key):
    write(f'{key} = true\nshadow = "leaf@challenger"')
    with pytest.raises(ConfigError, match=f"^{key}: it takes a number, not true$"):
        config.load()


@pytest.mark.parametrize("said", ["12345678", "true", '["12345678"]', '{ of = "12345678" }'])
@pytest.mark.parametrize("key", ["kafka_password", "kafka_ssl_key_password"])
def test_a_secret_of_another_type_is_not_repeated(key, said):
    write(f"{key} = {said}")
    with pytest.raises(ConfigError) as told:
        config.load()
    assert str(told.value) == f"{key}: input should be a valid string"


@pytest.mark.parametrize(
    "key",
    ["home", "model", "registry_uri", "predictions_uri", "kafka_servers", "kafka_password",
     "kafka_ca", "metrics_host"],
)  # fmt: skip
def test_no_text_has_a_zero_byte_or_bytes_that_are_no_utf_8(monkeypatch, key):
    write(f'{key} = "1234\\u00005678"')
    with pytest.raises(ConfigError) as told:
        config.load()
    assert str(told.value) == f"{key}: it is no text in UTF-8, or holds a zero byte"
    write("")
    monkeypatch.setenv(f"SIGHTSTREAM_{key.upper()}", "1234\udcff5678")
    with pytest.raises(ConfigError) as told:
        config.load()
    assert str(told.value) == f"{key}: it is no text in UTF-8, or holds a zero byte"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("home", "", "it is empty; name a folder, or . for the current one"),
        ("home", "~nobody-has-this-name/x", "~nobody-has-this-name/x names the folder of a user"),
        ("predictions_uri", "~nobody-has-this-name/x", "~nobody-has-this-name/x names the folder"),
        ("metrics_host", "..", "'..' is neither the name of a host nor an address"),
        ("web_host", "a" * 64, "'a+' is neither the name of a host nor an address"),
        ("predictions_uri", "s3://", "s3:// names no place; give s3://bucket/folder, or a path"),
        ("predictions_uri", "s3:/lake/rows", "s3:/lake/rows names no place"),
        ("predictions_uri", "file://", "file:// names no place"),
        ("inbox_uri", "s3://[photos/", "it is no uri: Invalid IPv6 URL"),
        ("registry_uri", "http://me:secret@[x", "it is no uri: Invalid IPv6 URL"),
        ("driver_memory", "0g", "it must be such as 512m or 2g"),
        ("driver_memory", "511m", "Spark does not start with 511m; give it 512m or more"),
        ("driver_memory", "\uff12g", "it must be such as 512m or 2g"),
        ("master", "local[1\u0663]", "it must be such as local"),
        ("table_history", "1\u0663h", "it must be such as 12h or 7d"),
        ("model", "..", "it must be such as starter"),
        ("shadow", ".@champion", "it must be such as leaf@challenger"),
        ("kafka_value", f"json:$[{'9' * 5000}]", "it must be such as image"),
        ("kafka_max_offsets", 10**30, "input should be less than or equal to 2147483647"),
    ],
)
def test_what_would_fail_later_is_refused_with_its_reason(key, value, said):
    with pytest.raises(ConfigError, match=f"^{key}: {said}") as told:
        config.load(**{key: value})
    assert "secret" not in str(told.value)
    assert len(str(told.value)) < 500


@pytest.mark.parametrize("prefix", ["/srv/photos", "photos", "", "s3://", "S3://photos/in"])
def test_a_prefix_below_which_nothing_can_lie_is_told_and_not_kept(prefix):
    with pytest.raises(ConfigError, match=r"is no uri of a folder, such as file:///srv/photos/ or"):
        config.load(kafka_uri_prefixes=("file:///srv", prefix))


@pytest.mark.parametrize("said", ["a,b", "a, b", " a ,b ,", ",a,, b\n"])
def test_spaces_beside_commas_are_no_part_of_a_value(monkeypatch, said):
    for key in ("also", "ignore", "web_hosts"):
        monkeypatch.setenv(f"SIGHTSTREAM_{key.upper()}", said)
    loaded = config.load()
    assert loaded.also == loaded.ignore == loaded.web_hosts == ("a", "b")


def test_rows_do_not_go_to_the_topic_that_images_come_from():
    kept = config.load(kafka_topic="images", kafka_predictions_topic="images")
    assert kept.kafka_predictions_topic == "images"  # no image comes from there
    with pytest.raises(ConfigError, match=r"^kafka_predictions_topic: images come from images, "):
        config.load(source="kafka", kafka_topic="images", kafka_predictions_topic="images")
