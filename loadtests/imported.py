"""Imports slow modules once, in the server process from which the processes under test are forked."""

import os
from importlib import import_module

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "loadtests.settings"
django.setup()
for name in (
    "project.urls",
    "project.web.server",
    "project.wsgi",
    "runsadmin.management.commands.worker",
    "loadtests.environment",
    "tests.races.scripted_process",
):
    import_module(name)
