from typing import Any

from django_tasks_db.models import DBTaskResult


class Task(DBTaskResult[..., Any]):
    """A background task, under the name and with the permissions that operators see."""

    class Meta:
        proxy = True
        verbose_name = "task"

    def __str__(self) -> str:
        """The function, with its arguments: `run_sync 5`."""
        return " ".join([self.task_path.rpartition(".")[2], *map(str, self.args_kwargs["args"])])
