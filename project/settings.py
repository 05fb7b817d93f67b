"""Settings, read from the environment. .env.example lists them, docs/operations.md explains them."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.templatetags.static import static
from django.utils.csp import CSP
from whitenoise.compress import Compressor

from project import logs
from project.environment import Environment

BASE_DIR = Path(__file__).resolve().parent.parent

env = Environment()
env.read_file(os.environ.get("ENV_FILE", BASE_DIR / ".env"))

# Security

SECRET_KEY = env.text("SECRET_KEY", fix="It must be a long random secret; `make run` writes one.")
DEBUG = env.switch("DEBUG", default=False)
ALLOWED_HOSTS = env.comma_separated("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")

# On if a proxy in front terminates HTTPS. The proxy must always set X-Forwarded-Proto itself.
HTTPS = env.switch("HTTPS", default=False)
if HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
X_FRAME_OPTIONS = "DENY"
# The number of proxies in front. Each must append the address of its client to X-Forwarded-For.
PROXIES = env.integer("PROXIES", 1 if HTTPS else 0)

# In bytes. Larger request bodies, including files, are rejected unread (project.middleware.BoundedBodyMiddleware).
# A bulk edit may have 100,000 run ids. Django's own limit cannot differ by path.
MAX_BODY_SIZE = 2_621_440
MAX_BODY_SIZE_BY_PATH = {"/api/v1/bulk-edits/": 5_242_880}
DATA_UPLOAD_MAX_MEMORY_SIZE = max(MAX_BODY_SIZE_BY_PATH.values())

# The admin theme needs the two exceptions: Alpine evaluates attributes and sets styles on elements.
SECURE_CSP = {
    "default-src": [CSP.SELF],
    "script-src": [CSP.SELF, CSP.UNSAFE_EVAL],
    "style-src": [CSP.SELF, CSP.UNSAFE_INLINE],
    "frame-ancestors": [CSP.NONE],
}

# Sign-in: limits password guessing (project.login_throttle).
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AXES_HANDLER = "project.login_throttle.FailedSignIns"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"], "ip_address"]
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_CLIENT_IP_CALLABLE = "project.login_throttle.client_address"
AXES_LOCKOUT_CALLABLE = "project.login_throttle.refuse"
AXES_SENSITIVE_PARAMETERS = ["username"]  # Masked in logs: users sometimes type their password as username.
AXES_DISABLE_ACCESS_LOG = True  # Django's last_login is enough.
AXES_ENABLE_ADMIN = False

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# Apps and middleware

INSTALLED_APPS = [
    "runsadmin",  # First, so that its templates and commands override those of the other apps.
    "unfold",  # Must come before django.contrib.admin.
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "django_tasks_db",
    "rest_framework",
    "knox",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]

MIDDLEWARE = [
    "project.middleware.RequestIDMiddleware",
    "project.middleware.ProbesMiddleware",
    "project.middleware.DatabaseWatchMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "project.middleware.BoundedBodyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "project.middleware.CompressionMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
    "project.middleware.NumberRangeMiddleware",
]

ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "var" / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
# Compression takes seconds, so compress only the hashed files, and skip those that only debuggers load.
WHITENOISE_KEEP_ONLY_HASHED_FILES = True
WHITENOISE_SKIP_COMPRESS_EXTENSIONS = (*Compressor.SKIP_COMPRESS_EXTENSIONS, "map")

LANGUAGE_CODE = "en"
USE_I18N = False  # The pages are in English only.
TIME_ZONE = "UTC"
USE_TZ = True

# The admin's theme. Callables are given as dotted paths.

LOGIN_REDIRECT_URL = "admin:index"
UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "runsadmin",
    "SITE_HEADER": "runsadmin",
    "SITE_SUBHEADER": "Runs and their metadata",
    "SITE_SYMBOL": "data_object",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("runsadmin/icon.svg")},
    ],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": [lambda request: static("runsadmin/admin.css")],
    "BORDER_RADIUS": "5px",
    "COLORS": {
        "primary": {
            "50": "oklch(97.5% .012 225)",
            "100": "oklch(94.5% .028 225)",
            "200": "oklch(89% .05 225)",
            "300": "oklch(81% .08 225)",
            "400": "oklch(71% .095 226)",
            "500": "oklch(60% .098 227)",
            "600": "oklch(50% .088 228)",
            "700": "oklch(44% .077 229)",
            "800": "oklch(38% .065 230)",
            "900": "oklch(32% .053 231)",
            "950": "oklch(24% .04 232)",
        },
    },
    "GLOBAL_CALLBACK": "runsadmin.admin.site.context",
    "DASHBOARD_CALLBACK": "runsadmin.admin.dashboard.context",
    "SIDEBAR": {"show_search": True, "navigation": "runsadmin.admin.site.navigation"},
}

# The database. Every thread keeps its own connection open, so a pool has no benefit.

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASE: dict[str, Any] = env.database("DATABASE_URL", "sqlite:///var/db.sqlite3")
DATABASE |= {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}
if DATABASE["ENGINE"] == "django.db.backends.sqlite3":
    # Without symbolic links: SQLite keeps its other files next to the file itself.
    DATABASE["NAME"] = (BASE_DIR / DATABASE["NAME"]).resolve()
    # Transactions take the write lock when they begin: taking it later can fail immediately with "database is locked".
    DATABASE["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        # FULL: commits survive a power failure. With NORMAL, rows of edits that were already sent could be lost.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL",
    }
DATABASES = {"default": DATABASE}

# The background engine

# Each kind of work has its own queue, so that none waits behind another.
QUEUES = ["default", "export", "fetch", "long", "plan", "push", "sync"]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": QUEUES}}

# REST

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "runsadmin.api.authentication.TokenAuthentication",  # First, because a 401 names the first scheme.
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["runsadmin.api.permissions.HasRequiredPermission"],
    "DEFAULT_THROTTLE_CLASSES": ["runsadmin.api.throttling.AccountThrottle"],
    "DEFAULT_PARSER_CLASSES": ["runsadmin.api.parsers.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["runsadmin.api.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "runsadmin.api.schema.AutoSchema",
    "EXCEPTION_HANDLER": "runsadmin.api.exception_handler.exception_handler",
    "URL_FORMAT_OVERRIDE": None,
}
REST_KNOX = {"TOKEN_TTL": timedelta(days=90)}
SPECTACULAR_SETTINGS = {
    "TITLE": "runsadmin",
    "DESCRIPTION": "Finds runs of an Assistants API and edits their metadata.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "LICENSE": {"name": "MIT", "identifier": "MIT"},
    "SERVERS": [{"url": "/", "description": "This server."}],
    "TAGS": [
        {"name": "runs", "description": "Mirrored runs, and their metadata."},
        {"name": "edits", "description": "The log of edits, and actions on them."},
        {"name": "bulk-edits", "description": "One change to the metadata of many runs: planned, then applied."},
        {"name": "threads", "description": "The threads whose runs are mirrored."},
        {"name": "syncs", "description": "Reading runs from upstream into the mirror."},
        {"name": "exports", "description": "Files of runs."},
        {"name": "metadata-keys", "description": "Metadata keys and values, with the number of runs that have them."},
        {"name": "views", "description": "Saved views: searches with a name."},
        {"name": "schema", "description": "This document."},
    ],
    "COMPONENT_SPLIT_PATCH": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "EditStatus": "runsadmin.models.edit.EditStatus.choices",
        "BulkEditStatus": "runsadmin.models.bulk_edit.BulkEditStatus.choices",
        "SyncStatus": "runsadmin.models.sync.SyncStatus.choices",
        "ExportStatus": "runsadmin.models.export.ExportStatus.choices",
        "ExportFormat": "runsadmin.models.export.ExportFormat.choices",
    },
}

# Logging: to stderr, where the supervisor collects it.

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"chosen": logs.formatter(env.choice("LOG_FORMAT", ("line", "json"), "line"))},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "chosen", "filters": ["tracebacks"]}},
    "filters": {"tracebacks": {"()": lambda: logs.without_rejection_tracebacks}},
    "root": {
        "handlers": ["stderr"],
        "level": env.choice("LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR"), "INFO"),
    },
    # Django's own handlers would print each line twice with DEBUG on, and email errors with DEBUG off.
    "loggers": {
        "django": {"handlers": [], "propagate": True},
        "django.tasks": {"level": "WARNING"},  # Logs two lines per task, and idle workers run many.
        "axes": {"level": "WARNING"},
        "waitress.queue": {"level": "ERROR"},  # Warns of each request that waits for a thread.
        # azure-identity logs several lines per token, and a long warning if it gets none. The hold has the reason.
        "azure": {"level": "ERROR"},
        "msal": {"level": "ERROR"},
    },
}

# runsadmin


def connection_from(alias: str) -> dict[str, Any]:
    """The options of one connection: `default` reads RUNSADMIN_UPSTREAM_URL, `eu` reads RUNSADMIN_UPSTREAM_EU_URL, …"""
    prefix = "RUNSADMIN_UPSTREAM_" if alias == "default" else f"RUNSADMIN_UPSTREAM_{alias.upper()}_"
    kind = env.choice(f"{prefix}KIND", ("upstream", "archive"), "upstream")
    is_archive = kind == "archive"  # An archive needs no URL and no key, so nothing could be sent.
    url = (
        ""
        if is_archive
        else env.base_url(
            f"{prefix}URL", fix=f"It must be the base URL of the connection {alias!r}, including the version: …/v1."
        )
    )
    auth = env.choice(f"{prefix}AUTH", ("bearer", "api-key", "azure-identity"), "bearer")
    return {
        "KIND": kind,
        "URL": url,
        "AUTH": auth,
        "API_KEY": ""
        if is_archive
        else env.text(
            f"{prefix}API_KEY",
            "" if auth == "azure-identity" else None,
            fix=f"It must be the key of the connection {alias!r}, as issued by the upstream.",
        ),
        "API_VERSION": env.text(f"{prefix}API_VERSION", ""),
        "ORGANIZATION": env.text(f"{prefix}ORGANIZATION", ""),
        "PROJECT": env.text(f"{prefix}PROJECT", ""),
        "CONNECT_TIMEOUT": env.seconds(f"{prefix}CONNECT_TIMEOUT", 3),
        "READ_TIMEOUT": env.seconds(f"{prefix}READ_TIMEOUT", 10),
        "CONCURRENCY": env.integer(f"{prefix}CONCURRENCY", 16, minimum=1),
        "REQUESTS_PER_MINUTE": env.integer(f"{prefix}REQUESTS_PER_MINUTE", 0),
        "AZURE_SCOPE": env.text(f"{prefix}AZURE_SCOPE", "https://ai.azure.com/.default"),
        "MISSING_METADATA_IS_EMPTY": env.switch(f"{prefix}MISSING_METADATA_IS_EMPTY", default=False),
        "LISTS_ARE_FRESH": env.switch(f"{prefix}LISTS_ARE_FRESH", default=False),
    }


RUNSADMIN_CONNECTIONS = {alias: connection_from(alias) for alias in env.aliases("RUNSADMIN_CONNECTIONS", "default")}

RUNSADMIN_HOLD = env.switch("RUNSADMIN_HOLD", default=False)
RUNSADMIN_PUSH_WAIT = env.seconds("RUNSADMIN_PUSH_WAIT", 10)
RUNSADMIN_MAX_ATTEMPTS = env.integer("RUNSADMIN_MAX_ATTEMPTS", 8, minimum=1)
RUNSADMIN_ACTIVE_RUN_WAIT = env.seconds("RUNSADMIN_ACTIVE_RUN_WAIT", 900)
RUNSADMIN_PLAN_LASTS = env.seconds("RUNSADMIN_PLAN_LASTS", 86400)
RUNSADMIN_SETTLING_TIME = env.seconds("RUNSADMIN_SETTLING_TIME", 30)
RUNSADMIN_SYNC_EVERY = env.seconds("RUNSADMIN_SYNC_EVERY", 300)
RUNSADMIN_MAX_RUNS_PER_THREAD = env.integer("RUNSADMIN_MAX_RUNS_PER_THREAD", 100_000, minimum=1)
RUNSADMIN_FULL_SYNC_EVERY = env.seconds("RUNSADMIN_FULL_SYNC_EVERY", 86400)
RUNSADMIN_API_REQUESTS_PER_MINUTE = env.integer("RUNSADMIN_API_REQUESTS_PER_MINUTE", 1200)
RUNSADMIN_API_RATE_FILE = BASE_DIR / env.text("RUNSADMIN_API_RATE_FILE", "var/api-rate.sqlite3")
RUNSADMIN_EXPORT_FOLDER = BASE_DIR / env.text("RUNSADMIN_EXPORT_FOLDER", "var/exports")
RUNSADMIN_EXPORT_LASTS = env.seconds("RUNSADMIN_EXPORT_LASTS", 604800)
RUNSADMIN_MAX_RESPONSE_BYTES = env.integer("RUNSADMIN_MAX_RESPONSE_BYTES", 8 * 1024 * 1024, minimum=1024)

# The credentials that `make run` creates.
RUNSADMIN_DEMO_PASSWORD = env.text("RUNSADMIN_DEMO_PASSWORD", "")
RUNSADMIN_DEMO_TOKEN = env.text("RUNSADMIN_DEMO_TOKEN", "")
