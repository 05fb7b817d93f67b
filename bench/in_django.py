"""Sets Django up, calls a function of this package, and prints its result as JSON.

`python -m bench.in_django MODULE.FUNCTION [ARGUMENT…]`, with the settings and the database in the environment.
"""

import json
import sys
from importlib import import_module

import django


def main(function: str, *arguments: str) -> None:
    django.setup()
    module, _, name = function.rpartition(".")
    print(json.dumps(getattr(import_module(f"bench.{module}"), name)(*arguments)))


if __name__ == "__main__":
    main(*sys.argv[1:])
