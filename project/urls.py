from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from project import login_throttle
from runsadmin.admin import palette

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/login/", login_throttle.sign_in),
    path("admin/search/", admin.site.admin_view(palette.results_view)),
    path("admin/", admin.site.urls),
    path("api/v1/", include("runsadmin.api.urls")),
]

# Under /api/ errors are problem details; everywhere else they are Django's own pages.
handler400 = "runsadmin.api.error_views.bad_request"
handler403 = "runsadmin.admin.forbidden.page"
handler500 = "runsadmin.api.error_views.server_error"
