"""The project's own settings, without the need to collect static files first."""

from project.settings import *  # noqa: F403
from project.settings import BASE_DIR

STATIC_ROOT, STATICFILES_DIRS = BASE_DIR / "static", []  # Any folder that exists.
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
