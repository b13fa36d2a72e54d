"""The error that people see: one clear line, no traceback."""

from __future__ import annotations


class OnetokError(Exception):
    """Something the user can mend. The message names the file, the key or tensor, what was found and expected."""
