# make run    everything on this machine: http://127.0.0.1:8000 (PORT and SANDBOX_PORT move it)
# make test   make check, then all tests on SQLite and on PostgreSQL
# make check  everything but the tests: style, types, layers, migrations, settings
# make sabotage   removes the guards of the edits one by one, and shows which test notices
# make bench  how fast edits reach upstream, compared with the alternatives; writes var/bench/push.json
#             (BENCH='--help' lists its options)
# make lock   updates the lock files; UPGRADE=--upgrade takes newer versions

.DELETE_ON_ERROR:
.PHONY: run test test-sqlite check bench lock sabotage

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONUNBUFFERED := 1
export UV_PYTHON_DOWNLOADS := never
# Like pip, use the certificates that the machine trusts instead of a bundled list.
export UV_SYSTEM_CERTS ?= 1
# Tests start many processes, which without bytecode would all compile their imports again.
export UV_COMPILE_BYTECODE := 1
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME DJANGO_SETTINGS_MODULE PYTHONDONTWRITEBYTECODE

run: .env var/static/staticfiles.json
	exec python scripts/run.py

# Written once, with secrets for this machine.
.env: | .venv/run.stamp
	python scripts/write_env.py

var/static/staticfiles.json: .venv/run.stamp $(shell find static runsadmin/static -type f 2>/dev/null) | .env
	@echo "Compressing the static files ..."
	python manage.py collectstatic --no-input --verbosity 0
	touch $@

# Each line is one process, so that it receives make's SIGTERM. More tests run at once than there are cores, since most
# tests wait more than they compute.
PYTEST := pytest -n 3 --dist worksteal

# mypy keeps one core busy for a minute, so the checks run beside the first tests.
test: .venv/dev.stamp
	$(MAKE) --no-print-directory --jobs=2 check test-sqlite
	@echo; echo "== The tests again, on PostgreSQL: those whose SQL, locks or stored values could differ there"
	python -m tests.postgres $(PYTEST) $(ON_POSTGRES)

test-sqlite: .venv/dev.stamp
	@echo; echo "== The tests, on SQLite and in the browser"
	python -m tests.chromium
	$(PYTEST)

ON_POSTGRES := tests/models tests/services tests/races tests/engine tests/crashes tests/test_keyset.py tests/test_search.py \
	tests/test_tasks.py tests/admin/test_run_list.py tests/api/test_bulk_edits.py tests/api/test_editing.py \
	tests/api/test_edits.py tests/api/test_runs.py \
	tests/faults/test_database.py tests/faults/test_database_in_the_web.py tests/faults/test_post.py \
	tests/quirks/test_broken_values.py tests/quirks/test_simultaneous_edits.py tests/quirks/test_texts.py \
	tests/quirks/test_times.py tests/security/test_hostile_values.py tests/security/test_probes.py \
	tests/security/test_rate_limit.py

# Production settings, regardless of the machine's own.
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

# Stamps: a lock file that is newer than its stamp is installed again.

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
