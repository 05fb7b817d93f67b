# make run    everything on this machine: http://127.0.0.1:8000 (PORT and SANDBOX_PORT move it)
# make test   make check, then all tests on SQLite and on PostgreSQL
# make check  what needs no test to be found: style, types, layers, migrations, settings
# make lock   remakes the lock files; UPGRADE=--upgrade takes newer versions

.DELETE_ON_ERROR:
.PHONY: run test check lock

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONUNBUFFERED := 1
export UV_PYTHON_DOWNLOADS := never
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME DJANGO_SETTINGS_MODULE

PYTHON ?= $(shell scripts/find-python)
export PORT ?= 8000
export SANDBOX_PORT ?= 8001

run: .venv/base.stamp
	exec scripts/run

test: check
	exec scripts/test

check: .venv/dev.stamp
	exec scripts/check

UV := uv pip
COMPILE := $(UV) compile --quiet --python .venv/bin/python --universal --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header $(UPGRADE)

lock: .venv/uv.stamp
	$(COMPILE) requirements/uv.in -o requirements/uv.txt
	$(COMPILE) requirements/base.in -o requirements/base.txt
	$(COMPILE) requirements/dev.in -c requirements/base.txt -o requirements/dev.txt
	! grep -n '://' requirements/*.txt

# Stamps: a lock file that is newer than its stamp is installed again.

.venv/uv.stamp: requirements/uv.txt
	"$(PYTHON)" -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	touch $@

.venv/base.stamp: requirements/base.txt .venv/uv.stamp
	$(UV) install --quiet --python .venv/bin/python --require-hashes -r requirements/base.txt
	touch $@

.venv/dev.stamp: requirements/dev.txt .venv/uv.stamp
	$(UV) sync --quiet --python .venv/bin/python --require-hashes requirements/dev.txt
	touch $@ .venv/base.stamp
