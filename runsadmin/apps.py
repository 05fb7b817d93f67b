from django.apps import AppConfig


class RunsAdminConfig(AppConfig):
    name = "runsadmin"
    verbose_name = "Runs"
