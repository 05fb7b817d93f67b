"""Imports slow modules once, in the server process from which the processes under test are forked."""

import os
from importlib import import_module

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "loadtests.settings"
django.setup()
for name in (
    "granian.cli",
    "granian.server",
    "project.urls",
    "runsadmin.management.commands.worker",
    "loadtests.environment",
    "tests.races.scripted_process",
):
    import_module(name)
