from django.urls import path, re_path, register_converter
from django.urls.converters import StringConverter
from rest_framework.routers import SimpleRouter

from runsadmin.api.schema_views import DocsView, NotFoundView, SchemaView
from runsadmin.api.viewsets.bulk_edits import BulkEditViewSet
from runsadmin.api.viewsets.edits import EditViewSet
from runsadmin.api.viewsets.exports import ExportViewSet
from runsadmin.api.viewsets.metadata_keys import MetadataKeyViewSet
from runsadmin.api.viewsets.runs import RunViewSet
from runsadmin.api.viewsets.syncs import SyncViewSet
from runsadmin.api.viewsets.threads import ThreadViewSet
from runsadmin.api.viewsets.views import ViewViewSet


class Router(SimpleRouter):
    """Matches the actions of a resource before the resource itself: ids of runs and threads may contain slashes."""

    routes = sorted(SimpleRouter.routes, key=lambda route: "{url_path}" not in route.url)


class AnyTextConverter(StringConverter):
    """Metadata keys may be empty, and may contain slashes and line breaks."""

    regex = r"[\s\S]*"


register_converter(AnyTextConverter, "any_text")

router = Router(use_regex_path=False)
router.register("runs", RunViewSet, "run")
router.register("edits", EditViewSet, "edit")
router.register("bulk-edits", BulkEditViewSet, "bulk-edit")
router.register("threads", ThreadViewSet, "thread")
router.register("syncs", SyncViewSet, "sync")
router.register("exports", ExportViewSet, "export")
router.register("metadata-keys", MetadataKeyViewSet, "metadata-key")
router.register("views", ViewViewSet, "view")

app_name = "api"
urlpatterns = [
    *router.urls,
    path("schema/", SchemaView.as_view(), name="schema"),
    path("docs/", DocsView.as_view(), name="docs"),
    re_path(r"^[\s\S]*$", NotFoundView.as_view()),
]
