"""The Java that Spark runs on."""

import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from sightstream.errors import EnvironmentUnfitError

JAVA = (17, 21, 25)
"""The Java releases that Spark runs on; 25 from Spark 4.2 on."""

_LISTED = f"{', '.join(map(str, JAVA[:-1]))} or {JAVA[-1]}"


def java_version() -> int | None:
    """The major version of the Java that Spark would start; None where there is none."""
    java = _java_program()
    if not java:
        return None
    # Java says it in a file, too; to start one takes 0.15 s.
    with suppress(OSError, UnicodeDecodeError):
        release = Path(java).resolve(strict=True).parents[1] / "release"
        if found := re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', release.read_text(), re.M):
            return int(found.group(1))
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    return int(found.group(1)) if found else None


def require_java() -> str:
    """Spark's Java, a program; EnvironmentUnfitError where it is missing or of another version."""
    version = java_version()
    if version not in JAVA:
        found = f"Java {version}" if version else "no Java"
        raise EnvironmentUnfitError(
            f"Spark needs Java {_LISTED}, and found {found}; install one "
            f"(on Debian: apt-get install openjdk-{JAVA[0]}-jre-headless) and set JAVA_HOME to it"
        )
    return _java_program()


def _java_program() -> str:
    home = os.environ.get("JAVA_HOME")
    return str(Path(home, "bin", "java")) if home else shutil.which("java") or ""
