"""Numbers, shares, counts and names as a person reads them."""

from typing import Any

import numpy as np

from copdvae.report.words import METHODS, METRICS, TARGETS

DASH = "–"


def number(value: Any, digits: int = 2) -> str:
    """A number for reading: a true minus sign, a dash for what is missing."""
    if value is None or not np.isfinite(value):
        return DASH
    text = f"{value:,.{digits}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text.replace("-", "−")


def percent(share: float) -> str:
    return f"{share:.0%}".replace("%", "\u202f%")


def interval(low: float, high: float, digits: int = 2) -> str:
    return "" if np.isnan(low) or np.isnan(high) else f"{number(low, digits)} to {number(high, digits)}"


def method_name(method: str) -> str:
    return METHODS[method][0] if method in METHODS else method


def target_name(target: str) -> str:
    return TARGETS.get(target, target)


def metric_name(metric: str) -> str:
    return METRICS.get(metric, metric)


def hidden(count: int | None, small: int) -> str:
    if count is None:
        return ""
    return f"<{small}" if 0 < count < small else str(count)


def hide(counts: np.ndarray, small: int) -> list[str]:
    """Counts as text, the small ones hidden, and with a lone one the next smallest."""
    secret = (counts > 0) & (counts < small)
    text = [hidden(int(count), small) for count in counts]
    if secret.sum() == 1 and (others := np.flatnonzero((counts > 0) & ~secret)).size:
        text[others[counts[others].argmin()]] = "<more"
    return ["hidden" if entry == "<more" else entry for entry in text]


def percent_of(count: str, total: int) -> str:
    return f"{count} ({percent(int(count) / total)})" if count.isdigit() and total else count


def share(count: int, total: int, small: int) -> str:
    return percent_of("hidden" if 0 < total - count < small else hidden(int(count), small), int(total))


def duration(seconds: float | None) -> str:
    if seconds is None:
        return DASH
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def flat(mapping: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Nested settings as lines of dotted key and value."""
    lines: list[tuple[str, str]] = []
    for key, value in mapping.items():
        if isinstance(value, dict):
            lines += flat(value, f"{before}{key}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            lines.append((f"{before}{key}", f"{value:.4g}" if isinstance(value, float) else text))
    return lines
