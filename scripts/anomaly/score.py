"""Counts what an alert found, what it told for nothing, and how late it was."""
import numpy as np

BANDS = ((0.15, 0.3), (0.3, 0.6), (0.6, 1.01))


def score(world, alert, start=4 * 168, merge=3, grace=1):
    """`alert` is countries x hours. Alerts less than `merge` hours apart are one; one that begins up to `grace` hours after an outage is of
    that outage. Delay counts from the hour in which the outage begins. Outages that begin before `start` are not scored, nor are alerts."""
    hours = alert.shape[1]
    rows, false, false_odd = [], 0, 0
    for c in range(len(alert)):
        on = np.flatnonzero(alert[c])
        windows = [(int(a), int(b), d, b - a) for a, b, d in world["outages"][c] if int(b) < hours]
        for a, b, deep, long in windows:
            if a >= start:
                inside = on[(on >= a) & (on <= b + grace)]
                rows.append((deep, long, inside[0] - a if len(inside) else -1, world["size"][c]))
        begins = [h for i, h in enumerate(on) if i == 0 or h - on[i - 1] > merge]
        ends = [h for i, h in enumerate(on) if i == len(on) - 1 or on[i + 1] - h > merge]
        for first, last in zip(begins, ends):
            if first >= start and not any(first <= b + grace and last >= a for a, b, _, _ in windows):
                false += 1
                false_odd += bool(world["odd"][c, first])
    rows = np.array(rows)
    found = rows[:, 2] >= 0
    weeks = len(alert) * (hours - start) / 168
    by_depth = [(int(found[m].sum()), int(m.sum())) for lo, hi in BANDS for m in [(rows[:, 0] >= lo) & (rows[:, 0] < hi)]]
    deep, short = rows[:, 0] >= 0.3, rows[:, 1] < 2
    return dict(outages=len(rows), recall=found.mean(), deep=found[deep].mean(), short=found[short].mean(), false=false / weeks, false_count=false,
                false_odd=false_odd, delay=rows[found, 2].mean() if found.any() else np.nan, by_depth=by_depth, weeks=weeks, rows=rows)


def line(name, r):
    bands = " ".join(f"{a}/{b}" for a, b in r["by_depth"])
    return (f"{name:38} recall {r['recall']:.3f}  >=30% {r['deep']:.3f}  <2h {r['short']:.3f}  false {r['false']:.4f} "
            f"({r['false_count']}, {r['false_odd']} on odd days)  delay {r['delay']:.2f} h  [{bands}]")
