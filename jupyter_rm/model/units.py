"""Reading quantities as people write them, and writing them as people read them.

Memory is held in MiB (int), durations in seconds (float), GPU shares in 1/10000 of a device (int): the units stand in
the names of the functions. Wrong input raises :class:`RequestError` naming the field.
"""

from __future__ import annotations

import math
import re

from .errors import RequestError

GPU_UNIT = 10_000
_MEMORY = {"": 1 / 1048576, "b": 1 / 1048576, "k": 1 / 1024, "m": 1.0, "g": 1024.0, "t": 1048576.0}
_DURATION = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "ms": 0.001, "w": 604800.0}
_NUMBER_UNIT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*")


def memory_mib(value: object, field: str) -> int:
    """Return whole MiB (rounded up) for ``"4GiB"``, ``"512 MB"``, ``"1.5g"`` or a number of MiB.

    Decimal and binary suffixes mean the same here (1 GB = 1 GiB): batch systems read them so.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        amount = float(value)
    elif isinstance(value, str) and (match := _NUMBER_UNIT.fullmatch(value)):
        unit = match[2].lower().removesuffix("ib").removesuffix("b")
        if unit not in _MEMORY or (not match[2] and match[1]):
            raise RequestError(
                f"{field}: {value!r} has no known unit", hint='write a size such as "512MiB" or "4GiB"', code="JRM-Q04"
            )
        amount = float(match[1]) * _MEMORY[unit]
    else:
        raise RequestError(
            f"{field}: {value!r} is not a size", hint='write a size such as "512MiB" or "4GiB"', code="JRM-Q04"
        )
    if not math.isfinite(amount) or amount < 0 or amount >= 2**32:
        raise RequestError(f"{field}: {value!r} is out of range", hint="give 0 to 4 PiB", code="JRM-Q04")
    return math.ceil(amount)


def duration_s(value: object, field: str) -> float:
    """Return seconds for ``"1h"``, ``"90s"``, ``"1h30m"``, ``"01:30:00"`` or a number of seconds."""
    hint = 'write a duration such as "90s", "30m", "1h30m" or "01:30:00"'
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and re.fullmatch(r"\d+(:\d\d){1,2}", value):
        seconds = 0.0
        for part in value.split(":"):
            seconds = seconds * 60 + int(part)
    elif isinstance(value, str) and re.fullmatch(r"(\s*[0-9.]+\s*[a-zA-Z]+)+\s*", value):
        seconds = 0.0
        for number, unit in re.findall(r"([0-9.]+)\s*([a-zA-Z]+)", value):
            if unit.lower() not in _DURATION:
                raise RequestError(f"{field}: {value!r} has the unknown unit {unit!r}", hint=hint, code="JRM-Q04")
            try:
                seconds += float(number) * _DURATION[unit.lower()]
            except ValueError:
                raise RequestError(f"{field}: {value!r} is not a duration", hint=hint, code="JRM-Q04") from None
    else:
        raise RequestError(f"{field}: {value!r} is not a duration", hint=hint, code="JRM-Q04")
    if not math.isfinite(seconds) or seconds < 0:
        raise RequestError(f"{field}: {value!r} is out of range", hint=hint, code="JRM-Q04")
    return seconds


def gpu_share(value: object, field: str) -> int:
    """Return 1/10000 GPUs for 2, 0.5 or 0; shares above one device must be whole devices."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise RequestError(f"{field}: {value!r} is not a number of GPUs", hint="give 0, 0.5, 1, 2 ...", code="JRM-Q04")
    share = round(value * GPU_UNIT)
    if value > 0 and share == 0:
        raise RequestError(f"{field}: {value!r} is too small", hint="the smallest share is 0.0001", code="JRM-Q04")
    if share > GPU_UNIT and share % GPU_UNIT:
        raise RequestError(
            f"{field}: {value!r} GPUs: more than one GPU must be whole GPUs", hint="round it up", code="JRM-Q04"
        )
    return share


def whole(value: object, field: str, least: int = 0, most: int = 2**31 - 1) -> int:
    """Return ``value`` as an int within [least, most]."""
    if isinstance(value, bool) or not isinstance(value, int):
        if hasattr(value, "__index__") and not isinstance(value, bool):
            value = int(value)
        else:
            raise RequestError(
                f"{field}: {value!r} is not a whole number", hint=f"give {least} or more", code="JRM-Q04"
            )
    if not least <= value <= most:
        raise RequestError(
            f"{field}: {value} is not within {least} and {most}", hint=f"give {least} or more", code="JRM-Q04"
        )
    return value


def human_mib(mib: float) -> str:
    """Write MiB for people: ``'4.0 GiB'``."""
    for unit in ("MiB", "GiB", "TiB"):
        if mib < 1024 or unit == "TiB":
            return f"{mib:.0f} {unit}" if unit == "MiB" else f"{mib:.1f} {unit}"
        mib /= 1024
    raise AssertionError("unreachable")


def human_s(seconds: float) -> str:
    """Write seconds for people: ``'85 ms'``, ``'12.3 s'``, ``'1 h 02 min'``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, secs = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {secs:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
