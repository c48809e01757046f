"""web.commands: the page's threads, of which each look has new ones, share their heaps."""

import json
import subprocess
import sys

import pytest

LOOK = """
import ctypes, json, os, sys, threading
from sightstream.cli import main  # as the command is started
from web import commands
if sys.argv[2] == "shared":
    commands._share_memory()
import pyarrow as pa
lib, together = ctypes.CDLL(None), threading.Barrier(16)
lib.fopen.restype = lib.malloc.restype = ctypes.c_void_p

def hold():
    together.wait()
    lib.malloc(1000)
    together.wait()

threads = [threading.Thread(target=hold) for _ in range(16)]
for each in threads:
    each.start()
for each in threads:
    each.join()
file = ctypes.c_void_p(lib.fopen(sys.argv[1].encode(), b"w"))
lib.malloc_info(0, file)
lib.fclose(file)
heaps = open(sys.argv[1]).read().count("<heap nr=")
print(json.dumps([pa.default_memory_pool().backend_name, heaps]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="they are glibc's")
def test_the_command_has_its_threads_share_heaps(tmp_path):
    def look(how):
        done = subprocess.run(
            [sys.executable, "-c", LOOK, str(tmp_path / "heaps.xml"), how],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        return json.loads(done.stdout)

    pool, heaps = look("own")
    assert pool != "system"
    assert heaps > 2
    pool, heaps = look("shared")
    assert pool == "system"
    assert heaps <= 2
