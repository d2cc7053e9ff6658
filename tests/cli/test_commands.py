"""The command line: every command and flag, one line per refusal, and nothing heavy loaded for it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from symphony_fl.cli.main import INTERRUPTED, PANELS, main

FLAGS = {
    "run": ("--json", "--run-dir", "--network", "--in-process"),
    "resume": ("--json", "--network", "--in-process"),
    "compare": ("--seeds", "--in-process", "--from-mlflow", "--uri", "--experiment", "--out", "--json"),
    "frontier": ("--seeds", "--in-process", "--json"),
    "experiment": (
        "--paradigms", "--model", "--seeds", "--quick", "--folder", "--parallel", "--in-process", "--readme",
    ),
    "bench": ("--json",),
    "key": ("--rotate", "--accept"),
    "recipes": ("--show",),
    "options": ("--json", "--markdown", "--schema"),
    "dashboard": ("--uri", "--experiment", "--out", "--host", "--port"),
    "up": (
        "--superlink", "--number", "--root-certificates", "--insecure", "--device", "--memory", "--disk",
        "--accelerator", "--longest", "--threads", "--direct", "--announce", "--model", "--source",
    ),
    "status": ("--device", "--run", "--json"),
    "network": ("--host", "--port", "--name", "--certificate", "--key", "--authority"),
    "timing": ("--accuracy", "--mbit", "--json"),
    "replay": ("--uri",),
}  # fmt: skip
HEAVY = {"torch", "transformers", "flwr", "ray", "mlflow", "matplotlib", "scipy", "networkx", "numpy"}


@pytest.fixture
def symphony_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SYMPHONY_HOME", str(tmp_path))
    return tmp_path


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which a command is refused."""
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("symphony: ") and len(said.splitlines()) == 1
    return said


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True
    )
    return done.stdout


def test_every_command_is_known() -> None:
    named = [command.__name__ for panel in PANELS.values() for command in panel]
    assert sorted(named) == sorted(FLAGS)


@pytest.mark.parametrize("name", FLAGS)
def test_help_names_every_flag(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main([name, "--help"]) == 0
    said = capsys.readouterr().out
    assert [flag for flag in FLAGS[name] if f" {flag} " not in said] == []


def test_help_explains_arguments(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["run", "--help"]) == 0
    said = capsys.readouterr().out
    assert "a name (see: symphony recipes) or a YAML file" in said and "[key=value]..." in said


def test_commands_are_listed_in_panels(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"─ {panel} ─" in said for panel in PANELS)
    assert main([]) == 2
    assert capsys.readouterr().out.split() == said.split()


@pytest.mark.parametrize(
    ("words", "about"),
    [
        (["rnu"], "rnu"),
        (["--nonsense"], "--nonsense"),
        (["run"], "RECIPE"),
        (["run", "smoke", "--jsno", "x"], "--jsno"),
        (["run", "smoke", "--json", "/proc/nothing/x"], "--json /proc/nothing/x: cannot be written"),
        (["run", "defualt"], "did you mean 'default'?"),
        (["bench", "everything"], "'exchange', 'learn', 'relay'"),
        (["experiment", "novel"], "paper"),
        (["compare"], "name at least one recipe"),
        (["compare", "smoke", "--seeds", "0", "x"], "'x' is not a valid integer"),
        (["compare", "smoke", "--seeds"], "--seeds"),
        (["compare", "--out", "x.html"], "needs --from-mlflow"),
        (["timing", "x", "--mbit", "1", "0"], "must be above 0 and finite"),
        (["up", "--number", "0"], "--superlink"),
        (["up", "--superlink", "x:1", "--number", "one"], "--number"),
        (["key", "x", "--rotate", "--accept"], "--rotate"),
        (["dashboard", "rule=average"], "settings need --out FILE"),
        (["recipes", "rounds=3"], "needs --show RECIPE"),
        (["options", "--json", "--schema"], "name one of them"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    words: list[str], about: str, capsys: pytest.CaptureFixture[str], symphony_home: Path
) -> None:
    assert about in refused(words, capsys)


def test_an_option_takes_several_words(capsys: pytest.CaptureFixture[str], symphony_home: Path) -> None:
    for seeds in (["--seeds", "0", "1", "0"], ["--seeds", "0", "--quick", "--seeds", "1", "0"]):
        said = refused(["experiment", "paper", "--paradigms", "default", "gossip", *seeds], capsys)
        assert "--seeds 0 1 0: none may be named twice" in said


def test_interrupted_is_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(run: str, uri: str | None) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("symphony_fl.tracking.replay.replay_runs", interrupt)
    assert main(["replay", "all"]) == INTERRUPTED
    assert capsys.readouterr().err == "symphony: interrupted\n"


def test_versions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["symphony", "Python", "flwr", "torch"]


def test_the_version_is_that_of_the_package() -> None:
    import tomllib

    from symphony_fl import __version__

    file = Path(__file__).parents[2] / "pyproject.toml"
    assert tomllib.loads(file.read_text())["project"]["version"] == __version__


@pytest.mark.parametrize(
    "words",
    (["--version"], ["--help"], ["run", "default", "exchange.rule.gamma=1"], ["run", "smoke", "agents=5000"]),
)
def test_nothing_heavy_is_loaded_for_it(words: list[str]) -> None:
    code = f"import sys; from symphony_fl.cli.main import main; main({words}); "
    loaded = python(f"{code} print('loaded', sorted({HEAVY} & set(sys.modules)))")
    assert loaded.splitlines()[-1] == "loaded []"


def test_the_package_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "symphony_fl.cli", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0 and version("flwr") in done.stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("symphony ti", "timing"),
        ("symphony run epi", "epidemic"),
        ("symphony run smoke exchange.ru", "exchange.rule="),
    ],
)
def test_a_shell_completes(typed: str, offered: str) -> None:
    code = "from symphony_fl.cli.main import main; main([])"
    asked = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    said = python(code, _SYMPHONY_COMPLETE="complete_bash", **asked)
    assert offered in said.split()


def test_a_default_that_is_written_twice_is_the_same() -> None:
    from symphony_fl.cli import experiment, words
    from symphony_fl.config.options import EXPERIMENT
    from symphony_fl.experiment.paradigms import TINY

    assert words.EXPERIMENT == EXPERIMENT and experiment.TINY == TINY
