"""The URLs of admin pages, for code and for templates: `{% load links %}`."""

from django import template
from django.db.models import Model
from django.urls import reverse

register = template.Library()


@register.filter
def change_url(row: Model, page: str = "change") -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{page}", args=[row.pk])


def list_url(model: type[Model], page: str = "changelist") -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}")
