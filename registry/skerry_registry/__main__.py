"""The `skerry` command."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

from skerry.errors import SkerryError

REFUSED = 2


def main() -> NoReturn:
    """Run the command line; what is refused is told in a sentence, without a traceback, and exits with 2."""
    code = run()
    sys.stdout.flush()
    sys.stderr.flush()
    if "duckdb" in sys.modules:
        logging.shutdown()
        os._exit(code)  # DuckDB's binding would list its own objects as leaks on the way out
    sys.exit(code)


def run() -> int:
    """Run it and answer the exit code."""
    from skerry_registry.cli.commands import app  # noqa: PLC0415 - keeps the import of this module light

    try:
        app(prog_name="skerry")
    except SkerryError as error:
        return refuse(error.text, str(error.payload().get("description", "")))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return refuse(f"{where}{error.strerror or error}")
    except KeyboardInterrupt:
        return 130
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def refuse(problem: str, remedy: str = "") -> int:
    """Tell on stderr why not."""
    sys.stderr.write(f"skerry: {problem}\n" + (f"        {remedy}\n" if remedy else ""))
    return REFUSED


if __name__ == "__main__":
    main()
