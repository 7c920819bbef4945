"""Kubernetes quantities: ``500m``, ``64Gi``, ``1``. ZenML passes on any text, right or wrong."""

from __future__ import annotations

import re
from decimal import Decimal

_BINARY = {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)}
_DECIMAL = {"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1)} | {
    letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", start=1)
}
_SUFFIXES = _BINARY | _DECIMAL
_SHAPE = re.compile(r"(?P<sign>[+-]?)(?P<number>\d+(?:\.\d*)?|\.\d+)(?P<suffix>[a-zA-Z]*)")
_EXPONENT = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)[eE][+-]?\d+")
# Less of these can only be a unit that was forgotten (64) or mistaken (64m is 0.064 bytes).
_LEAST_BYTES = 2**20
_IN_BYTES = ("memory", "ephemeral-storage", "storage", "hugepages-2Mi", "hugepages-1Gi")


def parse(text: str) -> Decimal:
    """The number that a quantity stands for, in cores, bytes or devices.

    Args:
        text: for example ``500m``, ``64Gi``, ``1e3``.

    Raises:
        ValueError: it is no quantity; the message says what is wrong, and the nearest spelling.
    """
    if _EXPONENT.fullmatch(text):
        return Decimal(text)
    found = _SHAPE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no quantity; expected a number and a unit, such as 500m, 4 or 64Gi")
    suffix = found["suffix"]
    if suffix not in _SUFFIXES:
        raise ValueError(f"{text!r} has an unknown unit {suffix!r}{_near(found['number'], suffix)}")
    return Decimal(found["sign"] + found["number"]) * _SUFFIXES[suffix]


def complaint(resource: str, value: object) -> str | None:
    """What is wrong with the amount of a resource, or None.

    Args:
        resource: for example ``cpu``, ``memory``, ``nvidia.com/gpu``.
        value: what stands there.
    """
    if isinstance(value, bool) or not isinstance(value, str):
        return f"got {value!r}, expected text; write it in quotes: {str(value)!r}"
    try:
        return _of_amount(resource, value, parse(value))
    except ValueError as error:
        return str(error)


def _of_amount(resource: str, value: str, amount: Decimal) -> str | None:
    if amount < 0 or (amount == 0 and is_device(resource)):
        return f"got {value!r}, expected more than nothing"
    if is_device(resource) and amount != amount.to_integral_value():
        return f"got {value!r}; devices are given out whole: '1', '8'"
    if resource in _IN_BYTES and 0 < amount < _LEAST_BYTES:
        return f"{value!r} is {amount.normalize():f} bytes; write the unit, such as {_digits(value)}Gi"
    if resource == "cpu" and value[-1] in "iKMGTPE":
        return f"{value!r} is an amount of memory; processors are counted: '4', 500m"
    return None


def is_device(resource: str) -> bool:
    """Whether a resource is counted in whole devices, such as ``nvidia.com/gpu``: all with a domain are."""
    return "/" in resource


def is_gpu(resource: str) -> bool:
    """Whether a resource is a GPU: of NVIDIA (also its slices, ``nvidia.com/mig-…``), AMD or Intel."""
    domain, _, name = resource.partition("/")
    return (domain, name.split("-")[0]) in {
        ("nvidia.com", "gpu"), ("nvidia.com", "mig"), ("amd.com", "gpu"), ("gpu.intel.com", "i915"),
        ("gpu.intel.com", "xe"),
    }  # fmt: skip


def _digits(value: str) -> str:
    return re.sub(r"[^0-9.].*", "", value) or "1"


def _near(number: str, suffix: str) -> str:
    """A spelling that was probably meant: ``GiB`` and ``gi`` are ``Gi``, ``GB`` is ``G``."""
    for meant in (suffix, suffix[:-1] if suffix[-1] in "bB" else suffix):
        for known in _SUFFIXES:
            if known and known.lower() == meant.lower():
                return f"; did you mean {number}{known}?"
    return f"; known: {', '.join(sorted(filter(None, _SUFFIXES)))}"
