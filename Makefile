# make run       starts everything on this machine: http://127.0.0.1:8000 (PORT and SANDBOX_PORT change the ports)
# make test      runs the checks, all tests on SQLite, and those that depend on the database again on PostgreSQL
# make check     runs everything but the tests: style, types, layers, migrations, settings
# make sabotage  removes the guards of edits one at a time, and shows which test fails
# make bench     measures edits, syncs and searches, compared with the alternatives (BENCH='--help' lists its options)
# make lock      updates the lock files; UPGRADE=--upgrade upgrades to newer versions

.DELETE_ON_ERROR:
.PHONY: run test test-sqlite check bench lock sabotage

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONUNBUFFERED := 1
export UV_PYTHON_DOWNLOADS := never
# As pip does, use the certificates that the machine trusts instead of a bundled list.
export UV_SYSTEM_CERTS ?= 1
# Tests start many processes; without bytecode, each of them would compile its imports again.
export UV_COMPILE_BYTECODE := 1
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME DJANGO_SETTINGS_MODULE PYTHONDONTWRITEBYTECODE

run: .env var/static/staticfiles.json
	exec python scripts/run.py

# Written only once, because it contains new secrets.
.env: | .venv/run.stamp
	python scripts/write_env.py

var/static/staticfiles.json: .venv/run.stamp $(shell find static runsadmin/static -type f 2>/dev/null) | .env
	@echo "Compressing the static files ..."
	python manage.py collectstatic --no-input --verbosity 0
	touch $@

# Four tests run at once even on two cores, because most tests wait more than they compute.
PYTEST := pytest -n 4 --dist worksteal

# Each line of a recipe is a single process, so that it receives SIGTERM from make.
# mypy keeps one core busy for a minute, so the checks run alongside the first tests.
test: .venv/dev.stamp
	$(MAKE) --no-print-directory --jobs=2 check test-sqlite
	@echo; echo "== The tests whose SQL, locks or stored values could differ, again on PostgreSQL"
	python -m tests.postgres $(PYTEST) $(ON_POSTGRES)

test-sqlite: .venv/dev.stamp
	@echo; echo "== The tests, on SQLite and in the browser"
	python -m tests.chromium
	python -m tests.proxies
	$(PYTEST)

ON_POSTGRES := tests/models tests/services tests/isolation tests/races tests/engine tests/test_keyset.py \
	$(addprefix tests/crashes/test_, backups.py bulk.py postgres.py reads.py steps.py storm.py) \
	$(addprefix tests/search/test_, docs.py entry_points.py expanding.py lookups.py plans.py predicate.py run_search.py sort.py time_limit.py) \
	tests/test_checks.py tests/test_tasks.py tests/management/test_import_runs.py tests/api/test_exports.py $(addprefix tests/admin/test_run_, columns.py list.py position.py) tests/api/test_bulk_edits.py tests/api/test_editing.py \
	tests/api/test_edits.py tests/api/test_runs.py tests/api/test_reads.py \
	tests/api/test_access.py::test_expired_token_is_refused tests/api/test_access.py::test_revoked_token_is_refused \
	tests/api/test_access.py::test_token_of_inactive_account_is_refused \
	tests/faults/test_database.py tests/faults/test_database_in_web_requests.py \
	tests/quirks/test_broken_values.py::test_broken_value_is_unknown \
	tests/quirks/test_broken_values.py::test_column_with_broken_value_is_unknown \
	tests/quirks/test_broken_values.py::test_unusual_value_is_read \
	tests/quirks/test_simultaneous_edits.py tests/quirks/test_texts.py tests/quirks/test_times.py \
	tests/security/test_hostile_values.py tests/security/test_probes.py tests/security/test_rate_limit.py

# Production settings, whatever the settings of this machine are.
PRODUCTION := ENV_FILE=/dev/null SECRET_KEY=no-secret-only-long-enough-that-the-check-says-nothing HTTPS=on \
	ALLOWED_HOSTS=runs.example.org RUNSADMIN_UPSTREAM_URL=https://upstream.example/v1 RUNSADMIN_UPSTREAM_API_KEY=none

check: .venv/dev.stamp
	@echo "== Style, types, layers, migrations, settings"
	ruff check --quiet
	ruff format --check --quiet
	codespell
	mypy
	lint-imports
	python scripts/sabotage.py --check
	$(PRODUCTION) python manage.py makemigrations --check --dry-run
	$(PRODUCTION) python manage.py check --deploy --fail-level WARNING
	! grep -rn SILENCED_SYSTEM_CHECKS --include='*.py' .  --exclude-dir=.venv

sabotage: .venv/dev.stamp
	python scripts/sabotage.py

bench: .venv/bench.stamp
	python -m bench $(BENCH)

UV := uv pip
COMPILE := $(UV) compile --quiet --python .venv/bin/python --universal --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header $(UPGRADE)

lock: .venv/uv.stamp
	$(COMPILE) requirements/uv.in -o requirements/uv.txt
	$(COMPILE) requirements/base.in -o requirements/base.txt
	$(COMPILE) requirements/run.in -c requirements/base.txt -o requirements/run.txt
	$(COMPILE) requirements/dev.in -c requirements/run.txt -o requirements/dev.txt
	$(COMPILE) requirements/bench.in -c requirements/dev.txt -o requirements/bench.txt
	! grep -n '://' requirements/*.txt

# A lock file that is newer than its stamp is installed again.

.venv/uv.stamp: requirements/uv.txt
	python=$$(scripts/find-python) && "$$python" -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	touch $@

.venv/run.stamp: requirements/run.txt .venv/uv.stamp
	$(UV) install --quiet --python .venv/bin/python --require-hashes -r requirements/run.txt
	touch $@

.venv/dev.stamp: requirements/dev.txt .venv/uv.stamp
	$(UV) sync --quiet --python .venv/bin/python --require-hashes requirements/dev.txt
	touch $@ .venv/run.stamp

.venv/bench.stamp: requirements/bench.txt .venv/dev.stamp
	$(UV) install --quiet --python .venv/bin/python --require-hashes -r requirements/bench.txt
	touch $@
