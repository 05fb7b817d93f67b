from urllib.parse import urlencode

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.serializers import CharField, HyperlinkedIdentityField, SerializerMethodField, URLField

from runsadmin.api.fields import BooleanField, ChoiceField, SearchField, StringField
from runsadmin.api.links import Links
from runsadmin.api.serializers.documented import DocumentedModelSerializer
from runsadmin.api.serializers.strict import StrictSerializer
from runsadmin.models import SavedView
from runsadmin.models.saved_view import MAX_NAME_LENGTH
from runsadmin.services.run_columns import MAX_LENGTH as MAX_COLUMNS_LENGTH
from runsadmin.services.run_search import Sort

NAME = "The name of the view."
QUERY = "A search (docs/search.md), stored as written."
COLUMNS = "The columns of the list in the admin, such as `id,status,metadata.team`. Empty for the default columns."
SORT = "The order of the runs, as in the parameter `sort` of the list of runs."
TZ = "The time zone of the dates in the search and of the times shown."
IS_SHARED = "Whether everyone who may view runs can see the view. Sharing needs the permission `share_savedview`."
IS_DEFAULT = "Whether your list of runs in the admin opens with this view."


class ViewSerializer(DocumentedModelSerializer[SavedView]):
    docs = {
        "slug": ("The name of the view in URLs and in the parameter `view`. It never changes.", "failed-today"),
        "url": ("The URL of this view.", "http://runsadmin.example/api/v1/views/failed-today/"),
        "runs_url": (
            "The URL of the runs that the view finds.",
            "http://runsadmin.example/api/v1/runs/?view=failed-today",
            SerializerMethodField(),
        ),
        "name": (NAME, "Failed today"),
        "owner": ("The account that owns the view. Null if the account was deleted.", "alice"),
        "q": (QUERY, "status:failed created:>-1d", CharField(source="query", read_only=True)),
        "columns": (COLUMNS, "id,status,error,metadata.team"),
        "sort": (SORT, "-created_at"),
        "tz": (TZ, "Europe/Berlin"),
        "is_shared": (IS_SHARED, True),
        "is_default": (IS_DEFAULT, False, SerializerMethodField()),
        "created_at": ("When the view was created.", "2026-01-31T09:00:00Z"),
        "updated_at": ("When the view was last changed.", "2026-01-31T09:00:00Z"),
    }

    owner = CharField(source="owner.username", default=None, allow_null=True)
    url = HyperlinkedIdentityField("api:view-detail", lookup_field="slug")

    class Meta:
        model = SavedView

    @extend_schema_field(URLField)
    def get_runs_url(self, view: SavedView) -> str:
        return Links(self.context["request"]).runs(urlencode({"view": view.slug}))

    @extend_schema_field(serializers.BooleanField)
    def get_is_default(self, view: SavedView) -> bool:
        return bool(view.pk == self.context["default"])


class _ViewBody(StrictSerializer):
    q = SearchField(required=False, allow_blank=True, source="query", help_text=QUERY)
    columns = StringField(required=False, allow_blank=True, max_length=MAX_COLUMNS_LENGTH, help_text=COLUMNS)
    sort = ChoiceField(list(Sort), required=False, help_text=SORT)
    tz = StringField(required=False, help_text=TZ)
    is_shared = BooleanField(required=False, help_text=IS_SHARED)
    is_default = BooleanField(required=False, help_text=IS_DEFAULT)


class CreateViewBody(_ViewBody):
    examples = {
        "Private": {"name": "Failed today", "q": "status:failed created:>-1d"},
        "Shared": {"name": "Slow", "q": "duration:>5m", "sort": "-duration", "is_shared": True},
    }

    name = StringField(max_length=MAX_NAME_LENGTH, help_text=NAME)
    slug = StringField(
        required=False,
        max_length=MAX_NAME_LENGTH,
        help_text="Lower-case letters, digits and hyphens. By default, the slug is made from the name.",
    )


class ChangeViewBody(_ViewBody):
    examples = {"Share it": {"is_shared": True}, "Change the search": {"q": "status:failed", "tz": "Europe/Berlin"}}

    name = StringField(required=False, max_length=MAX_NAME_LENGTH, help_text=NAME)
