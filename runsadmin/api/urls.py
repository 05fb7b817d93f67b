from django.urls import path, re_path

from runsadmin.api.views import bulk_edits, documents, edits, runs, syncs, threads

app_name = "api"
urlpatterns = [
    path("runs/", runs.Runs.as_view(), name="runs"),
    path("runs/<path:run_id>/refresh/", runs.RefreshRun.as_view(), name="refresh-run"),
    path("runs/<path:run_id>/", runs.OneRun.as_view(), name="run"),
    path("edits/", edits.Edits.as_view(), name="edits"),
    path("edits/<int:pk>/", edits.OneEdit.as_view(), name="edit"),
    path("edits/<int:pk>/undo/", edits.Undo.as_view(), name="undo-edit"),
    path("edits/<int:pk>/retry/", edits.Retry.as_view(), name="retry-edit"),
    path("edits/<int:pk>/cancel/", edits.Cancel.as_view(), name="cancel-edit"),
    path("edits/<int:pk>/resolve/", edits.Resolve.as_view(), name="resolve-edit"),
    path("bulk-edits/", bulk_edits.BulkEdits.as_view(), name="bulk-edits"),
    path("bulk-edits/<int:pk>/", bulk_edits.OneBulkEdit.as_view(), name="bulk-edit"),
    path("bulk-edits/<int:pk>/edits/", bulk_edits.EditsOfOne.as_view(), name="edits-of-bulk-edit"),
    path("bulk-edits/<int:pk>/apply/", bulk_edits.Apply.as_view(), name="apply-bulk-edit"),
    path("bulk-edits/<int:pk>/pause/", bulk_edits.Pause.as_view(), name="pause-bulk-edit"),
    path("bulk-edits/<int:pk>/resume/", bulk_edits.Resume.as_view(), name="resume-bulk-edit"),
    path("bulk-edits/<int:pk>/cancel/", bulk_edits.Cancel.as_view(), name="cancel-bulk-edit"),
    path("bulk-edits/<int:pk>/retry/", bulk_edits.Retry.as_view(), name="retry-bulk-edit"),
    path("bulk-edits/<int:pk>/undo/", bulk_edits.Undo.as_view(), name="undo-bulk-edit"),
    path("threads/", threads.Threads.as_view(), name="threads"),
    path("threads/<path:thread_id>/", threads.OneThread.as_view(), name="thread"),
    path("syncs/", syncs.Syncs.as_view(), name="syncs"),
    path("syncs/<int:pk>/", syncs.OneSync.as_view(), name="sync"),
    path("schema/", documents.Schema.as_view(), name="schema"),
    path("docs/", documents.Docs.as_view(), name="docs"),
    re_path(r"^[\s\S]*$", documents.Nothing.as_view()),
]
