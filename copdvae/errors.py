"""What copdvae raises when its user, or the user's data, is at fault; anything else that is raised is a bug."""

import re
from dataclasses import dataclass


def printable(text: str) -> str:
    """`text` on one line that every terminal and UTF-8 file takes: what a file's name may hold besides that is escaped."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode() for letter in text)


def coded(text: str, reason: str) -> str:
    """A warning about what was read all the same, its stable code at the end: "lossy compression ... [lossy]"."""
    return f"{text} [{reason}]"


def reason_of(warning: str, default: str = "scan_warning") -> str:
    """The code at the end of a warning."""
    found = re.search(r" \[([a-z0-9_]+)\]$", warning)
    return found[1] if found else default


class CopdvaeError(Exception):
    """A mistake in what came from outside: shown as one line, exit code 1."""


class ReadError(CopdvaeError):
    """A file or series that is not what it should be: says which, what was found, what was expected, what to do.

    `reason` is a stable code for `rejected.csv`: a word or two with underscores, such as `missing_slice`; `docs/REASONS.md` has them all.
    """

    def __init__(self, message: str, reason: str = "unreadable"):
        message = printable(message)  # paths hold anything
        super().__init__(message, reason)  # both, or the reason would be lost on its way back from a worker process
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[0])


class ConfigError(CopdvaeError):
    """A study file or an option that does not make sense."""


class Stopped(CopdvaeError):
    """The scheduler asked for a stop and a checkpoint was written: exit code 75."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one input. A cohort's problems are collected and shown together, never one at a time."""

    where: str  # "phenotypes.csv row 12" or "manifest.csv row 3, insp_path"; row 1 is the header, as in a spreadsheet
    subject_id: str  # "" where the problem is not one subject's
    reason: str  # stable code, as in ReadError
    detail: str  # what was found, what was expected, what to do
    fatal: bool = True  # the subject cannot be used; otherwise a warning
    written: str = ""  # for a file, where `detail` quotes what was found in a cell, which may be a name or a birthday

    def for_a_file(self) -> str:
        return self.written or self.detail
