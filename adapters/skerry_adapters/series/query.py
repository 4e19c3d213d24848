"""The parameters of a time series query, from text to Query, and the cursor of the next page."""

from __future__ import annotations

from skerry.errors import SkerryError


class QueryInvalid(SkerryError):  # noqa: N818 - a row of the error table, named as it reads
    """A parameter that cannot be answered."""

    code = "timeseries:query.invalid"
    status = 400
    message = "The parameter '{name}' cannot be answered: {reason}."
