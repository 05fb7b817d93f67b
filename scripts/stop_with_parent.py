"""Runs a Python program that gets SIGTERM when its parent process ends: `stop_with_parent.py FILE|-m MODULE …`.

A parent that is killed cannot stop its children, which would run on unnoticed.
"""

import os
import runpy
import signal
import sys
import threading
import time


def watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    threading.Thread(target=watch, args=[os.getppid()], daemon=True, name="parent").start()
    del sys.argv[0]
    sys.path[0] = os.getcwd()  # noqa: PTH109 - as for any program that is started here.
    if sys.argv[0] == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
