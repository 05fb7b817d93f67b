import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder


@pytest.mark.django_db(transaction=True)
def test_database_of_an_older_version_is_refused() -> None:
    applied = MigrationRecorder.Migration.objects.filter(app="runsadmin")
    current = list(applied)
    applied.delete()
    MigrationRecorder(connection).record_applied("runsadmin", "0001_initial")
    try:
        with pytest.raises(CommandError, match=r"created by a version before 0\.1\.0.*set DATABASE_URL to a new"):
            call_command("migrate", verbosity=0)
    finally:
        applied.all().delete()
        applied.model.objects.bulk_create(current)
    assert "runsadmin_run" in connection.introspection.table_names()
