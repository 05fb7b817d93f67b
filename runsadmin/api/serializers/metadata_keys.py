from urllib.parse import quote

from drf_spectacular.utils import extend_schema_field
from rest_framework.reverse import reverse
from rest_framework.serializers import BooleanField, CharField, IntegerField, SerializerMethodField, URLField

from runsadmin.api.serializers.documented import DocumentedSerializer
from runsadmin.services.distinct_texts import MAX_COUNT, Counted

_COUNT = f"How many runs have it. Counting stops at {MAX_COUNT:,}."
_CAPPED = f"Whether more than {MAX_COUNT:,} runs have it."


class MetadataKeySerializer(DocumentedSerializer):
    docs = {
        "key": ("The key, or the first 512 characters of a longer one.", "team", CharField(source="text")),
        "count": (_COUNT, 4120, IntegerField()),
        "count_is_capped": (_CAPPED, False, BooleanField()),
        "values_url": (
            "The URL of its values in this API.",
            "http://runsadmin.example/api/v1/metadata-keys/team/values/",
            SerializerMethodField(),
        ),
    }

    @extend_schema_field(URLField)
    def get_values_url(self, counted: Counted) -> str:
        keys = reverse("api:metadata-key-list", request=self.context["request"])
        return f"{keys}{quote(counted.text, safe='')}/values/"


class MetadataValueSerializer(DocumentedSerializer):
    docs = {
        "value": ("The value, or the first 512 characters of a longer one.", "search", CharField(source="text")),
        "count": (_COUNT, 310, IntegerField()),
        "count_is_capped": (_CAPPED, False, BooleanField()),
    }
