"""The URLs of admin pages, for code and for templates: `{% load links %}`."""

from django import template
from django.db.models import Model
from django.urls import reverse

register = template.Library()


@register.filter
def change_url(row: Model, page: str = "change") -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{page}", args=[row.pk])


@register.simple_tag
def list_url(model: type[Model] | str, page: str = "changelist") -> str:
    """The URL of a model's list. Templates pass the name of one of this app's models."""
    name = f"runsadmin_{model}" if isinstance(model, str) else model._meta.label_lower.replace(".", "_")
    return reverse(f"admin:{name}_{page}")
