"""The base classes of response serializers. They have no docstrings, since the schema would repeat them everywhere."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar

from django.db.models import Model
from rest_framework import serializers


class DocumentedSerializer(serializers.Serializer[Any]):
    # For each field, in order: its description, an example, and the field unless the model or the class defines it.
    docs: ClassVar[Mapping[str, tuple[Any, ...]]]

    @classmethod
    def example(cls) -> dict[str, Any]:
        return {name: row[1] for name, row in cls.docs.items()}

    def get_fields(self) -> dict[str, Any]:
        defined = super().get_fields()
        fields = {}
        for name, (description, _, *own) in self.docs.items():
            fields[name] = deepcopy(own[0]) if own else defined[name]
            fields[name].help_text = description
        return fields


class DocumentedModelSerializer[M: Model](DocumentedSerializer, serializers.ModelSerializer[M]):
    def get_field_names(self, declared_fields: Any, info: Any) -> list[str]:
        return [name for name, row in self.docs.items() if len(row) == 2]

    def get_extra_kwargs(self) -> dict[str, dict[str, Any]]:
        return {name: {"read_only": True} for name in self.docs}
