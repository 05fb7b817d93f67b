"""Imported once by the server from which the processes under test are forked: what takes long at a start."""

import os
from importlib import import_module

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.crashes.settings"
django.setup()
for name in (
    "granian.cli",
    "granian.server",
    "project.urls",
    "runsadmin.management.commands.worker",
    "tests.crashes.scene",
    "tests.races.hands",
):
    import_module(name)
