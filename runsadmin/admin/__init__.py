"""The admin: what people see and press. It asks the services for everything that changes something."""

from django.contrib import admin

# What the other apps register comes first and is taken out again: only what is laid out here is shown.
admin.autodiscover()
for model in list(admin.site._registry):
    admin.site.unregister(model)

from runsadmin.admin import (  # noqa: E402
    accounts,
    bulk_edits,
    connections,
    edits,
    runs,
    syncs,
    threads,
    tokens,
)

__all__ = ["accounts", "bulk_edits", "connections", "edits", "runs", "syncs", "threads", "tokens"]
