"""The command line: it starts light, helps everywhere, and fails in one clear line."""

import atexit
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from typer.main import get_command
from typer.testing import CliRunner

from sightstream import plugins, terminal
from sightstream.cli import extras, main
from sightstream.cli.main import app
from sightstream.errors import ConfigError, InputError
from sightstream.tables.predictions import Predictions

FULL = Path("/dev/full")
HEAVY = (
    "streamlit",
    "tensorflow",
    "keras",
    "pyspark",
    "mlflow",
    "pandas",
    "pyarrow",
    "numpy",
    "rich.progress",
)


def commands(group=None, path=()):
    for name, command in (group or get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def program(*arguments, cwd):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SIGHTSTREAM_")}
    return subprocess.run(
        [sys.executable, "-m", "sightstream", *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_importing_it_imports_nothing_heavy():
    code = f"import sys, sightstream.cli.main; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("[]\n", 0)


def test_the_commands_are_the_documented_ones():
    assert {" ".join(each) for each in commands()} == {
        "run", "train", "models list", "models show", "models diff", "models promote",
        "models rollback", "models import", "drop", "predict", "query", "tail", "label",
        "doctor", "config show",
        "backfill", "evaluate", "refresh", "status", "publish", "watch", "load", "web",
    }  # fmt: skip


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_each_command_helps_with_an_example(command):
    shown = CliRunner().invoke(app, [*command, "--help"])
    assert shown.exit_code == 0
    assert "Example: " in shown.output
    assert f"sightstream {' '.join(command)}" in shown.output.partition("Example: ")[2]
    assert "--home" in shown.output


def test_a_setting_that_does_not_exist_is_refused_and_the_nearest_named(tmp_path):
    (tmp_path / "sightstream.toml").write_text("metrics_prot = 9000\n")
    done = program("config", "show", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "sightstream: there is no setting metrics_prot; did you mean metrics_port?\n"
    )


def test_a_long_error_is_still_one_line(tmp_path):
    missing = tmp_path / ("a very long name " * 8) / "x.jpg"
    done = program("drop", str(missing), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"sightstream: there is no file or folder {missing}\n"


def test_a_name_in_an_error_is_text(tmp_path):
    done = program("drop", str(tmp_path / "a\x1b[2J.jpg"), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"sightstream: there is no file or folder {tmp_path}/a\\x1b[2J.jpg\n"


def test_a_line_of_data_is_one_line_without_control_characters(capsys):
    terminal.line("a\x1b[2J\n\u2028.jpg  grün")
    assert capsys.readouterr().out == "a\\x1b[2J\\n\\u2028.jpg  grün\n"


def test_the_home_may_stand_before_the_command(tmp_path):
    done = program("--home", str(tmp_path / "there"), "config", "show", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["home"] == str(tmp_path / "there")


def test_predict_on_a_file_that_is_not_there(new_home):
    done = new_home()("predict", "nothing.jpg", "--json")
    assert done.returncode == 1
    (result,) = json.loads(done.stdout)
    assert (result["status"], result["error_code"]) == ("rejected", "not_found")
    assert result["top"] == []
    assert result["error_detail"]


def test_predict_in_a_home_without_a_model(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"")
    done = program("predict", "x.jpg", cwd=tmp_path)
    assert done.returncode == 5
    assert done.stdout == ""
    assert "sightstream train starter" in " ".join(done.stderr.split())
    assert f"there is no home folder {tmp_path}/data; name one with --home, or" in done.stderr
    assert not (tmp_path / "data" / "registry").exists()


@pytest.mark.skipif(not FULL.exists(), reason=f"there is no {FULL} here")
def test_a_full_disk_is_told(tmp_path):
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sightstream", "config", "show"],
            cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr == "sightstream: [Errno 28] No space left on device\n"


def test_what_libraries_do_at_the_end_is_done_before_it(tmp_path):
    code = (
        "import atexit, sys; from sightstream.cli.main import main; sys.argv[1:] = ['--version']; "
        "atexit.register(sys.stderr.write, 'done'); main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "done")
    assert done.stdout.strip()


def test_query_before_there_is_a_table(tmp_path):
    done = program("query", "select 1", cwd=tmp_path)
    assert done.returncode == 2
    assert "start the stream with: sightstream run" in " ".join(done.stderr.split())


# Commands by entry point


ORDER = (
    "run status backfill drop publish watch load predict query tail label doctor train evaluate "
    "refresh web"
)


def test_the_help_keeps_its_order():
    shown = [line.split()[0] for line in CliRunner().invoke(app, ["--help"]).output.splitlines()
             if line.startswith("  ") and line[2:3].islower()]  # fmt: skip
    assert shown == [*ORDER.split(), "models", "config"]


@pytest.mark.parametrize("group", ["", "models", "config"])
def test_what_a_command_does_is_told_whole_on_a_narrow_terminal(group):
    shown = CliRunner().invoke(app, [*group.split(), "--help"], terminal_width=80).output
    assert [line for line in shown.partition("Commands:")[2].splitlines() if "..." in line] == []


def test_a_package_adds_a_command(package, tmp_path, capsys, monkeypatch):
    package("tea", "1.0")
    info = tmp_path / "site" / "tea-1.0.dist-info"
    (info / "entry_points.txt").write_text("[sightstream.commands]\ntea = tea:register\n")
    monkeypatch.setattr(main, "app", more := typer.Typer())
    (tmp_path / "site" / "tea.py").write_text(
        "def register(app):\n    app.command('tea')(lambda: print('is ready'))\n"
    )
    main.add_commands()
    assert CliRunner().invoke(more, ["tea"]).output == "is ready\n"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("code", ["import nowhere", "register = None", "def register(app): 1 / 0"])
def test_a_package_whose_commands_do_not_load_costs_one_line(
    package, tmp_path, capsys, monkeypatch, code
):
    package("broken", "1.0")
    info = tmp_path / "site" / "broken-1.0.dist-info"
    (info / "entry_points.txt").write_text("[sightstream.commands]\nbad = broken_one:register\n")
    (tmp_path / "site" / "broken_one.py").write_text(code)
    monkeypatch.delitem(sys.modules, "broken_one", raising=False)
    monkeypatch.setattr(main, "app", more := typer.Typer())
    main.add_commands()
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.startswith("sightstream: the commands of bad (broken_one:register) cannot be load")
    assert {"run", "doctor", "web"} <= {*get_command(more).commands}


def test_of_two_entries_of_one_name_and_value_one_counts():
    found = [(e.name, e.value) for e in plugins.entry_points("sightstream.commands", *main.OURS)]
    assert [name for name, _ in found] == list(main.OURS)


# Extras


@pytest.mark.parametrize(
    ("module", "command", "said"),
    [
        ("tensorflow.keras", "train", "train needs tensorflow, which is not installed: "
         "pip install 'sightstream[train]'"),
        ("sklearn", "evaluate", "evaluate needs scikit-learn, which is not installed: "
         "pip install 'sightstream[train]'"),
        ("kafka", "run", "run needs kafka-python, which is not installed: "
         "pip install 'sightstream[kafka]'"),
        ("duckdb", "query", "query needs duckdb, which is not installed: "
         "pip install 'sightstream[sql]'"),
        ("duckdb", "web", "web needs duckdb, which is not installed: "
         "pip install 'sightstream[web]'"),
        ("nowhere", "run", None),
    ],
)  # fmt: skip
def test_a_module_of_an_extra_is_told_with_the_line_that_installs_it(module, command, said):
    assert extras.explain(ModuleNotFoundError(name=module), command) == said


def test_a_command_without_its_extra_ends_in_one_line_and_code_3(tmp_path):
    code = (
        "import sys; sys.modules['duckdb'] = None; sys.argv[1:] = ['query', 'select 1']; "
        "from sightstream.tables.predictions import Predictions; Predictions('data/predictions'); "
        "from sightstream.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        "sightstream: query needs duckdb, which is not installed: pip install 'sightstream[sql]'\n"
    )


def test_what_a_command_needs_is_asked_for_before_it_begins():
    extras.require("kafka", "duckdb")
    with pytest.raises(ModuleNotFoundError) as told:
        extras.require("nowhere")
    assert told.value.name == "nowhere"


def test_python_runs_its_exit_functions_by_this_name_contract():
    assert callable(atexit._run_exitfuncs)


# What no command can take


@pytest.mark.parametrize(
    "arguments",
    [
        ["label", "id\udcff", "dog"], ["label", "id\udcff", "--undo"],
        ["backfill", ".", "--into", "./answers\udcff"],
        ["query", "select 1", "--home", "home\udcff"],
        ["status", "--home", "~nobody-has-this-name/x"], ["run", "--inbox", "s3://[photos/"],
        ["models", "promote", "starter", "9" * 5000], ["drop", "/"], ["publish", "/", "--key", "x"],
    ],
    ids=lambda given: " ".join(given)[:30].encode("ascii", "replace").decode(),
)  # fmt: skip
def test_an_argument_that_names_nothing_is_told_in_a_sentence(tmp_path, arguments):
    Predictions(str(tmp_path / "data" / "predictions"))
    done = program(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "data" / "inbox").exists()


@pytest.mark.parametrize(
    ("command", "option", "values"),
    [
        ("load", "--rate", ("inf", "nan", "1e300")), ("drop", "--rate", ("inf", "-1")),
        ("publish", "--timeout", ("inf", "nan", "0")), ("publish", "--partitions", ("3000000000",)),
        ("load", "--duration", ("nan", f"{'9' * 400}h", "\u0661h", "1h\n", "0s")),
        ("train", "--seed", ("4294967296",)), ("refresh", "--seed", ("4294967296", "-1")),
        ("refresh", "--margin", ("nan", "inf")), ("refresh", "--every", ("inf", f"{'9' * 10}d")),
        ("models import", "--size", ("00x10", "\u0663x4", "123456x1", "8x8\n")),
        ("models import", "--crop", ("nan", "inf", "0")),
        ("models import", "--name", ("..", "a/b", "")),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_number_that_nothing_can_count_to_is_refused_at_once(settings, command, option, values):
    needed = {"models import": ["x.onnx", "--name", "mine"], "load": []}.get(command, ["leaf"])
    for value in values:
        done = CliRunner().invoke(app, [*command.split(), *needed, option, value])
        refused = done.exit_code == 2 or isinstance(done.exception, InputError | ConfigError)
        assert refused, (value, done.output, done.exception)
    assert not settings.root.exists()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8:strict"])
def test_names_that_the_screen_cannot_show_are_escaped_as_in_json(tmp_path, encoding):
    name = "caf\u00e9 \u65e5\u672c \U0001f600"
    done = subprocess.run(
        [sys.executable, "-m", "sightstream", "config", "show", "--json", "--home", name],
        cwd=tmp_path, env=os.environ | {"PYTHONIOENCODING": encoding}, capture_output=True,
        timeout=60,
    )  # fmt: skip
    assert done.stderr == b""
    assert json.loads(done.stdout.decode(encoding.partition(":")[0]))["home"] == name


@pytest.mark.parametrize("of", ["pyspark.errors", "py4j.protocol"])
def test_what_spark_raises_is_told_by_its_last_line(monkeypatch, capsys, of):
    failed = {"pyspark.errors": PySparkException, "py4j.protocol": Py4JError}[of]

    def command():
        raise failed("An error occurred.\n  at org.apache.spark\nOSError: no space\n\tat java\n")

    monkeypatch.setattr(main, "app", command)
    assert main._exit_code() == 1
    assert capsys.readouterr().err == "sightstream: Spark failed: OSError: no space\n"


def test_a_fault_of_ours_is_not_hidden(monkeypatch):
    monkeypatch.setattr(main, "app", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main._exit_code()
