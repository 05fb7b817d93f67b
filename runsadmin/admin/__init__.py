"""The admin pages. Every change goes through the services."""

from django.contrib import admin

# The admins of other apps register first; unregister them, so that only those below are shown.
admin.autodiscover()
for model in list(admin.site._registry):
    admin.site.unregister(model)

from runsadmin.admin import accounts, bulk_edits, connections, edits, runs, saved_views, syncs, tasks, threads, tokens  # noqa: E402
