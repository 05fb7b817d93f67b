from django.apps import AppConfig


class RunsAdminConfig(AppConfig):
    name = "runsadmin"
    verbose_name = "Runs"

    def ready(self) -> None:
        from runsadmin import checks  # noqa: F401 - importing it registers them.
