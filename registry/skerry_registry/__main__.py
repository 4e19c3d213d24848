"""The `skerry` command."""

from __future__ import annotations

import sys

from skerry.errors import SkerryError

REFUSED = 2


def main() -> None:
    """Run the command line; what is refused is told in a sentence, without a traceback, and exits with 2."""
    from skerry_registry.cli.commands import app  # noqa: PLC0415 - keeps `python -m` and imports of this module light

    try:
        app(prog_name="skerry")
    except SkerryError as error:
        refuse(error.text, str(error.payload().get("description", "")))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        refuse(f"{where}{error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(130)


def refuse(problem: str, remedy: str = "") -> None:
    """Tell on stderr why not, and leave."""
    sys.stderr.write(f"skerry: {problem}\n" + (f"        {remedy}\n" if remedy else ""))
    sys.exit(REFUSED)


if __name__ == "__main__":
    main()
