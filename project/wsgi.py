import os

from django.core.checks import Tags, run_checks
from django.core.management.base import SystemCheckError
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

application = get_wsgi_application()


def check_settings() -> None:
    """Runs the checks that `manage.py` runs before each command. Raises SystemCheckError, whose text has no secrets."""
    if errors := [
        message for message in run_checks(tags=[Tags.compatibility])
        if message.is_serious() and not message.is_silenced()
    ]:  # fmt: skip
        raise SystemCheckError("\n".join(str(error) for error in errors))


check_settings()
