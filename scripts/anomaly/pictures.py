"""Draws docs/images/anomaly-*.png: an ordinary week, an outage that is found, a holiday that is none.

    python pictures.py [folder]
"""
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import rule
import worlds

BLUE, GREY, RED = "#2d6cdf", "#8a8f98", "#d93025"


def draw(path, title, x, r, span, calendar=None):
    hours = np.arange(*span)
    days = (hours - hours[0]) / 24
    expected, guard = r["expected"][hours], r["guard"][hours]
    # What two equal values must fall below: both the guard and half of the noises that they need together.
    by_noise = np.maximum(np.sqrt(expected + 0.375) - rule.SUM / 2 * r["noise"][hours] / 2, 0) ** 2 - 0.375
    limit = np.maximum(np.minimum((1 - guard) * expected, by_noise), 0)
    figure, axes = plt.subplots(figsize=(9, 3.4), dpi=110)
    axes.fill_between(days, limit, expected, step="post", color=GREY, alpha=0.25, lw=0, label="from expected down to the limit of two values")
    axes.step(days, expected, where="post", color=GREY, lw=1, label="expected")
    axes.step(days, x[hours], where="post", color=BLUE, lw=1.6, label="devices")
    low = r["alert"][hours]
    for i in np.flatnonzero(low):
        axes.axvspan(days[i], days[i] + 1 / 24, color=RED, alpha=0.25, lw=0, label=None if low[:i].any() else "SeasonalGaugeLow")
    if calendar is not None:
        for i in np.flatnonzero(calendar[hours]):
            axes.axvspan(days[i], days[i] + 1 / 24, ymax=0.04, color="#188038", lw=0, label=None if calendar[hours][:i].any() else "a holiday by the calendar")
    axes.set(title=title, xlabel="days", xlim=(0, days[-1]), ylim=(0, None))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=4, fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2] / "docs" / "images")
    world = worlds.first(2)
    r = rule.rule(world["x"], world["calendar"])
    series = lambda c: {key: value[c] for key, value in r.items()}
    touched = world["odd"].copy()
    for c, outages in enumerate(world["outages"]):
        for a, b, _ in outages:
            touched[c, int(a):int(b) + 1] = True
    whole = lambda c, a, b: not np.isnan(world["x"][c, a:b]).any() and not np.isnan(r["expected"][c, a:b]).any()
    big = [c for c in range(len(world["x"])) if 500 < world["size"][c] < 20000]
    weeks = [(c, a) for c in big for a in range(8 * 168, 25 * 168, 168)]

    c, a = next((c, a) for c, a in weeks if whole(c, a, a + 168) and not touched[c, a - 200:a + 168].any() and not world["calendar"][c, a:a + 168].any())
    draw(folder / "anomaly-week.png", "An ordinary week", world["x"][c], series(c), (a, a + 168))

    c, a, b, deep = next((c, int(a), int(b), d) for c in big for a, b, d in world["outages"][c]
                         if a > 8 * 168 and 3 < b - a < 10 and 0.22 < d < 0.6 and whole(c, int(a) - 36, int(b) + 40)
                         and r["alert"][c, int(a):int(b)].any()
                         and (np.abs(r["below"][c, int(a) - 24:int(a)]) < 0.12).all())
    draw(folder / "anomaly-outage.png", f"An outage of {deep:.0%} for {b - a} hours", world["x"][c], series(c), (a - 36, b + 40))

    def holiday(c, a):
        inside = world["calendar"][c, a:a + 168]
        if not inside[48:120].any() or inside[:48].any() or inside.sum() > 48 or not whole(c, a, a + 168):
            return False
        free = [a_ for a_, b_, _ in world["outages"][c] if a - 24 < b_ and a_ < a + 168]
        # One that would be an alert if the calendar did not know it.
        return not free and not r["alert"][c, a:a + 168].any() and blind[c, a:a + 168][inside].sum() > 2

    blind = rule.rule(world["x"])["alert"]
    c, a = next((c, a) for c in big for a in range(8 * 168, 25 * 168, 24) if holiday(c, a))
    draw(folder / "anomaly-holiday.png", "A holiday that the calendar knows", world["x"][c], series(c), (a, a + 168), world["calendar"][c])
