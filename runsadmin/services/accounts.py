"""Whether an account can be deleted."""

from django.contrib.auth.models import User
from django.db.models import PROTECT, ManyToOneRel


def has_history(account: User) -> bool:
    """Whether edits, bulk edits, syncs or exports have the name of this account, so that it can only be deactivated."""
    return any(
        relation.related_model._base_manager.filter(**{relation.field.name: account}).exists()
        for relation in User._meta.get_fields(include_hidden=True)
        if isinstance(relation, ManyToOneRel) and relation.on_delete is PROTECT
    )
