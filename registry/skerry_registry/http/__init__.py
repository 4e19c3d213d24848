"""The HTTP edge: URL and body to Command, Response to HTTP."""

from skerry_registry.http.operations import Gauge
from skerry_registry.http.routes import routes
from skerry_registry.http.server import run_http
from skerry_registry.http.site import create_http

__all__ = ["Gauge", "create_http", "routes", "run_http"]
