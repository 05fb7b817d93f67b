"""Time formats that strftime lacks, or that differ between platforms, are refused before planning."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client

from runsadmin.bulk_patch import BulkPatch
from runsadmin.errors import InvalidMetadata
from runsadmin.models import BulkEdit, Run
from runsadmin.services import bulk_edits
from tests.api.conftest import ApiOf, problem
from tests.fake_upstream import FakeUpstream
from tests.form_rows import form_rows
from tests.management.conftest import Manage
from tests.sandbox_client import make_run

pytestmark = pytest.mark.django_db

UNSUPPORTED = "in the format "
REFUSED = {
    "huge width": ("{created:%999999999d}", UNSUPPORTED),
    "width": ("{created:%10Y}", UNSUPPORTED),
    "no padding": ("{created:%-d}", UNSUPPORTED),
    "padded with spaces": ("{created:%_d}", UNSUPPORTED),
    "upper case": ("{created:%^a}", UNSUPPORTED),
    "other case": ("{created:%#p}", UNSUPPORTED),
    "Unix seconds": ("{created:%s}", UNSUPPORTED),
    "milliseconds": ("{created:%Q}", UNSUPPORTED),
    "nanoseconds of date": ("{created:%N}", UNSUPPORTED),
    "representation of the locale": ("{created:%c}", UNSUPPORTED),
    "date of the locale": ("{created:%x}", UNSUPPORTED),
    "time of the locale": ("{created:%X}", UNSUPPORTED),
    "12-hour time of the locale": ("{created:%r}", UNSUPPORTED),
    "era of the locale": ("{created:%Ey}", UNSUPPORTED),
    "digits of the locale": ("{created:%Od}", UNSUPPORTED),
    "glibc lower case": ("{created:%P}", UNSUPPORTED),
    "two colons": ("{created:%::z}", UNSUPPORTED),
    "letter of another alphabet": ("{created:%é}", UNSUPPORTED),
    "line break": ("{created:%\n}", UNSUPPORTED),
    "single percent": ("{created:100%}", "ends with a single %. Write %% for a percent sign."),
    "only a percent": ("{created:%}", "ends with a single %"),
    "no directive": ("{created:YYYY-MM-DD}", "has no directive. Use directives such as %Y-%m-%d."),
    "only percent signs": ("{created:%%}", "has no directive"),
    "space": ("{created: }", "has no directive"),
    "nested field": ("{created:{model}}", "contains a brace"),
    "U+0000": ("{created:%Y\0%m}", "contains a character that cannot be stored"),
    "U+0000 outside the field": ("a\0{created:%Y}", "contains a character that cannot be stored"),
    "format of a text": ("{model:>9999}", "{model} does not accept a format"),
    "conversion": ("{created!r}", "!r is not supported"),
    "attribute": ("{created.year}", "is not a field"),
    "index": ("{created[0]}", "is not a field"),
    "no name": ("{}", "is not a field"),
    "open brace": ("{created", "Double a literal brace"),
    "closing brace": ("created}", "Double a literal brace"),
    "huge result": ("{created:" + "%Y" * 129 + "}", "has 516 characters; at most 512 are allowed."),
    "many times": ("{created}" * 26, "has 520 characters"),
    "many fields": ("{model}" * 513, "has 513 characters"),
}  # fmt: skip

# What templates give for a run that was created at 2026-03-04 05:06:07 UTC.
FILLED = {
    "default": ("{created}", "2026-03-04T05:06:07Z"),
    "date": ("{created:%Y-%m-%d}", "2026-03-04"),
    "C99": ("{created:%F %T %R %D %e %h %C %g}", "2026-03-04 05:06:07 05:06 03/04/26  4 Mar 20 26"),
    "words": ("{created:%A %a %B %b %I %p}", "Wednesday Wed March Mar 05 AM"),
    "weeks": ("{created:%G-W%V-%u %U %W %w %j}", "2026-W10-3 09 09 3 063"),
    "zone": ("{created:%z %:z %Z}", "+0000 +00:00 UTC"),
    "fraction": ("{created:%S.%f %y}", "07.000000 26"),
    "percent": ("{created:100%% of %Y}", "100% of 2026"),
    "other scripts": ("{created:%Y年%m月 🚀}", "2026年03月 🚀"),
    "braces": ("{{{created:%Y}}}", "{2026}"),
    "no template": ("100% of it, %d %s %", "100% of it, %d %s %"),
    "line break": ("{created:%Y\n%m}", "2026\n03"),
}
CREATED = 1_772_600_767


@pytest.fixture
def run(mirror_runs: Callable[..., list[Run]]) -> Run:
    return mirror_runs(make_run(id="run_a", created_at=CREATED))[0]


@pytest.mark.parametrize(("template", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_template_is_refused_with_reason(template: str, message: str) -> None:
    with pytest.raises(InvalidMetadata) as refused:
        BulkPatch({"month": template}).check()
    [error] = refused.value.errors
    assert error.key == "month"
    assert message in error.message


@pytest.mark.parametrize("template", ["{created:%999999999d}", "{created:%Q}", "{created:%}"])
def test_refused_template_plans_nothing(
    template: str, upstream: FakeUpstream, run: Run, manage: Manage, api: ApiOf, alice: User, client: Client
) -> None:
    output = manage(
        "edit_metadata", "run_a", "--set", f"month={template}", "--reason", "why", "--dry-run", "--actor", "alice"
    )
    assert output.code == 1
    assert "The value of 'month': " in output.err
    response = api(alice).post("bulk-edits/", {"run_ids": ["run_a"], "set": {"month": template}, "reason": "why"})
    assert problem(response, 400, "invalid-metadata")["errors"][0]["key"] == "month"
    client.force_login(alice)
    draft = bulk_edits.save_draft(selection=bulk_edits.by_ids(["run_a"]), actor=alice)
    form = {**form_rows({"what": "set", "key": "month", "value": template}), "reason": "why"}
    page = client.post(f"/admin/runsadmin/bulkedit/add/?selection={draft.pk}", form)
    assert page.status_code == 422
    assert "The value of &#x27;month&#x27;: " in page.text
    assert not BulkEdit.objects.exists()


def test_supported_formats_are_filled(upstream: FakeUpstream, run: Run, manage: Manage, alice: User) -> None:
    """Each directive has the same result on every machine."""
    options = [f"--set=k{index}={template}" for index, (template, _) in enumerate(FILLED.values())]
    output = manage("edit_metadata", "run_a", *options, "--reason", "why", "--canary", "1", "--actor", "alice")
    assert (output.code, output.err) == (0, "")
    assert upstream.metadata("run_a") == {f"k{index}": value for index, (_, value) in enumerate(FILLED.values())}
