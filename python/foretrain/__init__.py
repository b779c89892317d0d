"""Forecasts of training runs, on dicts.

    import foretrain
    e = foretrain.estimate("gpt3-175b-1024-a100", overrides={"strategy.tp": 4, "strategy.dp": 32})
    e["step_time_s"], e["mfu"]
    foretrain.Table([foretrain.estimate(job, overrides={"tp": tp}) for tp in (1, 2, 4)])

A job is a dict as in a job file, a name of `foretrain list jobs`, or a path. Calls release the GIL: a thread pool uses
all cores.
"""

import html
import json
import math
import os
from pathlib import Path

# Installed, the catalogue stands in <prefix>/share/foretrain; in a build folder the program knows where it is.
_share = Path(__file__).resolve().parents[4] / "share" / "foretrain" if len(Path(__file__).resolve().parents) > 4 else None
if _share is not None and _share.is_dir():
    os.environ.setdefault("FORETRAIN_HOME", str(_share))

from foretrain import _core  # noqa: E402  (reads FORETRAIN_HOME)
from foretrain._core import EnvironmentError, Error, InfeasibleError, InputError  # noqa: E402

__all__ = ["EnvironmentError", "Error", "Estimate", "InfeasibleError", "InputError", "Table", "estimate", "search", "validate"]


def _not_finite(value, path):
    """Where a number of it is none of JSON's."""
    if isinstance(value, float) and not math.isfinite(value):
        return path, value
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    return next(filter(None, (_not_finite(part, f"{path}/{name}") for name, part in parts)), None)


def _document(value, what):
    """As JSON text."""
    wrong = _not_finite(value, "")
    if wrong:
        raise InputError(f"{what}: {wrong[0] or '/'}: {wrong[1]} is not allowed; expected a finite number")
    return json.dumps(value)


def _is_a(kind, **arguments):
    for name, value in arguments.items():
        if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
            raise TypeError(f"{name} is of type {kind.__name__}, not {type(value).__name__}")


def _job(job):
    """The job as text, and whether it is a name or a path."""
    if isinstance(job, (str, os.PathLike)):
        return os.fspath(job), True
    if isinstance(job, dict):
        return _document(job, "job"), False
    raise TypeError(f"a job is a dict, a name or a path, not {type(job).__name__}")


def _text(value):
    return value if isinstance(value, str) else _document(value, "overrides")


def _overrides(overrides):
    """{"strategy.tp": 4} or ["strategy.tp=4"] as the command line has them."""
    if overrides is None:
        return []
    if isinstance(overrides, dict):
        return [f"{key}={_text(value)}" for key, value in overrides.items()]
    if isinstance(overrides, str) or not all(isinstance(text, str) for text in overrides):
        raise TypeError("overrides are a dict, or a list of texts KEY=VALUE")
    return list(overrides)


def estimate(job, overrides=None, *, compute_model="auto", network="auto", fixes=True, **whole_run):
    """The forecast of one training step: foretrain.estimate/1 (docs/formats.md) as a dict.

    With `tokens` ("15T", 3e11) or `steps` also of the whole run ("whole_run"), with the other words of `foretrain estimate`
    about it, _ for -: price=2.5, checkpoint_every="20 min", mtbf="3 h".

    A job that does not fit has "fits" False; `fixes` says whether to look for changes that make it fit. Raises InputError
    (a ValueError) with every mistake of the job.
    """
    text, is_name = _job(job)
    words = _document(whole_run, "whole_run")
    _is_a(str, compute_model=compute_model, network=network)
    _is_a(bool, fixes=fixes)
    return Estimate(json.loads(_core.estimate(text, is_name, _overrides(overrides), compute_model, network, fixes, words)))


def search(job, overrides=None, *, free=(), axis=None, within=0, time=0, keep=10):
    """The fastest strategy for a job, with the proof: foretrain.search/1 (docs/search.md) as a dict.

    `free` lists words of the job's strategy that are searched, or is "all"; `axis` gives an axis its values, as
    {"tp": [2, 4]}. It ends when no plan can be faster by more than the part `within`, or after `time` seconds. "best" is
    None where nothing fits.
    """
    text, is_name = _job(job)
    if not 0 <= within < 1:
        raise InputError(f"within: {within} is not allowed; expected a part from 0 to below 1")
    if not time >= 0:
        raise InputError(f"time: {time} is not allowed; expected seconds, or 0 for as long as it takes")
    if not 1 <= keep <= 1000:
        raise InputError(f"keep: {keep} is not allowed; expected 1 to 1000")
    _is_a(int, keep=keep)
    words = [free] if isinstance(free, str) else list(free)
    if not all(isinstance(word, str) for word in words):
        raise TypeError("free is \"all\", or a list of words of a strategy")
    axes = [f"{name}={','.join(map(_text, values if isinstance(values, (list, tuple, range)) else [values]))}"
            for name, values in (axis or {}).items()]
    return json.loads(_core.search(text, is_name, _overrides(overrides), words, axes, within, time, keep))


def validate(job, overrides=None):
    """Every mistake of a job, as a list of messages; an empty list: it is a job, and its plan graph is sound."""
    try:
        _core.resolve(*_job(job), _overrides(overrides))
    except InputError as error:
        return str(error).splitlines()
    return []


class Estimate(dict):
    """A dict that notebooks show as a table."""

    def _repr_html_(self):
        return Table([self])._repr_html_()


def _seconds(value):
    for unit, scale in (("s", 1), ("ms", 1e-3), ("us", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.3g} s"


def _optional(value, show):
    return "-" if value is None else show(value)


class Table:
    """Estimates beside each other, one row for each: plain text with print(), a table in notebooks."""

    COLUMNS = ["model", "devices", "dp", "tp", "pp", "cp", "ep", "step time", "tokens/s", "MFU", "memory", "fits"]

    def __init__(self, estimates):
        self.rows = [self._row(e) for e in estimates]

    @staticmethod
    def _row(e):
        job = e["resolved"]
        model, strategy = job["workload"]["model"], job["strategy"]
        name = model if isinstance(model, str) else model.get("name", "-")
        return [
            name,
            f"{e['mfu_basis']['devices']:,}",
            *(str(strategy.get(axis, 1)) for axis in ("dp", "tp", "pp", "cp", "ep")),
            _optional(e["step_time_s"], _seconds),
            _optional(e["tokens_per_s"], lambda v: f"{v:,.0f}"),
            _optional(e["mfu"], lambda v: f"{100 * v:.1f} %"),
            f"{e['memory']['demand_bytes'] / 1e9:.1f} of {e['memory']['capacity_bytes'] / 1e9:.1f} GB",
            "yes" if e["fits"] else "no",
        ]

    def __str__(self):
        lines = [self.COLUMNS, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.COLUMNS))]
        return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in lines)

    def _repr_html_(self):
        def row(cells, tag):
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        body = "".join(row(cells, "td") for cells in self.rows)
        return f"<table><thead>{row(self.COLUMNS, 'th')}</thead><tbody>{body}</tbody></table>"
