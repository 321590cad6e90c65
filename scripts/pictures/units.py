"""Numbers with the units of Grafana, as people read them."""

STEPS = {
    "s": [(1e-6, "µs"), (1e-3, "ms"), (1, "s"), (60, "min"), (3600, "h"), (86400, "d")],
    "m": [(1 / 60, "s"), (1, "min"), (60, "h"), (1440, "d")],
    "bytes": [(1, "B"), (1024, "KiB"), (1024**2, "MiB"), (1024**3, "GiB"), (1024**4, "TiB")],
    "Bps": [(1, "B/s"), (1024, "KiB/s"), (1024**2, "MiB/s"), (1024**3, "GiB/s")],
    "short": [(1, ""), (1e3, "K"), (1e6, "M"), (1e9, "G")],
}
SUFFIX = {"cps": "/s", "ops": "/s", "reqps": "/s"}


def show(value, unit, decimals=None):
    if value is None:
        return ""
    if unit == "percentunit":
        return digits(value * 100, decimals) + " %"
    if unit in STEPS:
        factor, name = next(((f, n) for f, n in reversed(STEPS[unit]) if abs(value) >= f), STEPS[unit][0])
        if value == 0 and unit in ("s", "m"):
            factor, name = 1, {"s": "s", "m": "min"}[unit]
        return f"{digits(value / factor, decimals)} {name}".strip()
    return digits(value, decimals) + (" " + SUFFIX[unit] if unit in SUFFIX else "")


def digits(value, decimals):
    if decimals is None:
        decimals = 0 if value == int(value) or abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.2g}" if 0 < abs(value) < 10**-decimals and decimals else f"{value:.{decimals}f}"


def ticks(low, high, unit):
    """Three to six round values that cover the range."""
    base = 60 if unit in ("s", "m") and high >= 120 else 1
    while unit in ("bytes", "Bps") and high >= base * 1024:
        base *= 1024
    if unit == "s" and high >= 7200:
        base = 3600 if high < 4 * 86400 else 86400
    raw = (high - low) / base / 4
    power = 10 ** len(str(int(raw))) / 10 if raw >= 1 else 10 ** -next(n for n in range(1, 12) if raw * 10**n >= 1)
    step = base * power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = int(low // step)
    return [step * k for k in range(first, first + 9) if step * k < high + step * 0.999]
