"""Whether an account can be deleted."""

from django.contrib.auth.models import User
from django.db.models import PROTECT, ManyToOneRel


def has_history(account: User) -> bool:
    """Whether rows that must keep their actor, such as edits, refer to this account. It can only be deactivated."""
    return any(
        relation.related_model._base_manager.filter(**{relation.field.name: account}).exists()
        for relation in User._meta.get_fields(include_hidden=True)
        if isinstance(relation, ManyToOneRel) and relation.on_delete is PROTECT
    )
