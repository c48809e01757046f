"""Prometheus' rules: valid, each alert fires and stays quiet as it should, and has its page."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from streaming.observe import docs

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docker" / "prometheus"

needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool is not installed: apt-get install prometheus"
)


def rules(name):
    groups = yaml.safe_load((FOLDER / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules("alerts.yml")}


@needs_promtool
@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "recording.yml", "alerts.yml"),
        ("test", "rules", "alerts.test.yml"),
    ],
)
def test_promtool_finds_nothing_wrong(command):
    done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_tested_firing_and_not_firing(alert):
    tests = yaml.safe_load((FOLDER / "alerts.test.yml").read_text())["tests"]
    asked = [a for test in tests for a in test["alert_rule_test"] if a["alertname"] == alert]
    assert {bool(a["exp_alerts"]) for a in asked} == {True, False}


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_to_do(alert):
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^## (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in [heading.lower() for heading in headings]


def test_the_runbook_has_no_section_without_an_alert():
    assert set(re.findall(r"^## (.+)$", (ROOT / "docs/runbook.md").read_text(), re.M)) == {*ALERTS}


def test_rules_ask_for_metrics_that_exist():
    known = set(re.findall(r"^\| `(\w+)`", docs.page(), re.MULTILINE))
    asked = set()
    for rule in (*rules("recording.yml"), *ALERTS.values()):
        asked |= set(re.findall(r"\bsightstream_\w+", rule["expr"]))
    assert {re.sub("_(bucket|count|sum)$", "", name) for name in asked} <= known
