"""Times whole pages and REST responses in this process, from the request to the complete response."""

import resource
from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from knox.models import AuthToken

from bench import timing
from bench.queries import COMMON, RARE, WORD

USERNAME = "bench"
LIST = "/admin/runsadmin/run/"
# The pages of the product and of the plain project. Those with the same name are compared.
OURS = {
    "list page": LIST,
    "list page, by status": f"{LIST}?q=status:failed",
    "list page, a search for a common value": f"{LIST}?q={COMMON}",
    "list page, a search for a rare value": f"{LIST}?q={RARE}",
    "list page, a search for a word": f"{LIST}?q={WORD}",
    "suggestions: fields and values for a word": f"{LIST}suggestions/?q=c-12",
    "suggestions: metadata keys": f"{LIST}suggestions/?q=metadata.",
    "suggestions: values of a key": f"{LIST}suggestions/?q=metadata.customer:c-12",
    "facets of all runs": f"{LIST}facets/",
    "facets, a search for a common value": f"{LIST}facets/?q={COMMON}",
    "facets, the values of a key": f"{LIST}facets/?q={COMMON}&facet=customer",
    "facets, a search for a rare value": f"{LIST}facets/?q={RARE}",
    "REST, 100 runs": "/api/v1/runs/?page_size=100",
    "REST, 100 runs with a rare value": f"/api/v1/runs/?page_size=100&q={RARE}",
    "REST, 100 runs with a common value": f"/api/v1/runs/?page_size=100&q={COMMON}",
}
PLAIN = {
    "list page": LIST,
    "list page, by status": f"{LIST}?status__exact=failed",
    "list page, a search for a common value": f"{LIST}?metadata=env:prod",
    "list page, a search for a rare value": f"{LIST}?metadata=env:canary",
    "list page, a search for a word": f"{LIST}?q={WORD}",
    "REST, 100 runs": "/cursor/",
    "REST, 100 runs, LimitOffset": "/offset/?limit=100",
}


def token() -> str:
    """A token of a superuser who is created if necessary. Earlier tokens are revoked."""
    user, _ = User.objects.get_or_create(username=USERNAME, is_staff=True, is_superuser=True)
    AuthToken.objects.filter(user=user).delete()
    return str(AuthToken.objects.create(user=user)[1])


def measure(project: str, repeats: str, limit: str) -> dict[str, Any]:
    """The pages of a project, `ours` or `plain`. Each takes at most about `limit` seconds."""
    headers = {"Authorization": f"Token {token()}"}
    client = Client(headers=headers, raise_request_exception=False, SERVER_NAME="localhost")
    client.force_login(User.objects.get(username=USERNAME), backend="django.contrib.auth.backends.ModelBackend")
    results: dict[str, Any] = {}
    for name, url in (OURS if project == "ours" else PLAIN).items():
        response = client.get(url)
        results[name] = {"status": response.status_code, "bytes": len(response.content)}
        if response.status_code == 200:
            results[name] |= timing.repeated(lambda url=url: client.get(url), int(repeats), seconds=float(limit))  # type: ignore[misc]
    return results | {"peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
