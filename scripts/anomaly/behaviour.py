"""What docs/anomaly.md says beside recall and false alerts: echoes, the first weeks, almost 0, steps of five minutes.

    python behaviour.py
"""
import numpy as np

import rule
import score
import worlds

NAMES = ("first", "second", "third")


def echoes(world, alert, lag):
    """Windows `lag` hours after an outage in which no other one is, and those of them with an alert."""
    windows = hits = 0
    for c, outages in enumerate(world["outages"]):
        for a, b, _ in outages:
            hours = np.arange(int(a) + lag, int(b) + lag + 1)
            hours = hours[hours < alert.shape[1]]
            if a > 4 * 168 and len(hours) and not any(hours[0] <= end and hours[-1] + 1 >= begin for begin, end, _ in outages):
                windows, hits = windows + 1, hits + alert[c, hours].any()
    return windows, hits


def near_zero(x):
    """SeasonalGaugeNearZero, without its `unless`."""
    highest = np.fmax.reduce([rule.ago(x, h) if h else x for h in range(24)])
    with np.errstate(invalid="ignore"):
        return (x < 0.02 * highest) & (highest > 100)


def five_minutes(name, seed=20, countries=16, weeks=12):
    """The same world by the hour and by five minutes; there a value comes five or ten minutes after its hour."""
    world = getattr(worlds, name)(seed, countries=countries, weeks=weeks)
    x, rng = world["x"], np.random.default_rng(5)
    hours = x.shape[1]
    comes = np.arange(hours + 1) * 12 + 1 + (rng.random(hours + 1) < 0.4)
    shown = np.full((countries, hours * 12), np.nan)
    for h in range(hours):
        shown[:, comes[h]:comes[h + 1]] = x[:, h:h + 1]
    fine = rule.rule(shown, np.repeat(world["calendar"], 12, axis=1), steps=12)
    by_hour = lambda series: np.stack([series[:, comes[h]:comes[h + 1]].any(axis=1) for h in range(hours)], axis=1)
    print(score.line(f"{name}, whole hours", score.score(world, rule.rule(x, world["calendar"])["alert"])))
    print(score.line(f"{name}, five minutes", score.score(world, by_hour(fine["critical"] | fine["warning"]))))
    print(score.line(f"{name}, five minutes, no for", score.score(world, by_hour(fine["alert"]))), flush=True)


if __name__ == "__main__":
    for name in NAMES:
        world = worlds.join([getattr(worlds, name)(seed) for seed in range(3)])
        alert = rule.rule(world["x"], world["calendar"])["alert"]
        for lag, words in ((168, "week"), (24, "day")):
            windows, hits = echoes(world, alert, lag)
            print(f"{name}: {windows} windows a {words} after an outage, {hits} with an alert")
        for day in (14, 15, 21):
            r = score.score(world, alert[:, :(day + 7) * 24], start=day * 24)
            print(f"{name}: week from day {day}: recall {r['recall']:.2f} of {r['outages']}, false {r['false']:.3f}")
        r = score.score(world, near_zero(world["x"]), start=24)
        whole = r["rows"][r["rows"][:, 0] > 0.98]
        print(f"{name}: almost 0: {r['false_count']} false in {r['weeks']:.0f} series-weeks, {(whole[:, 2] >= 0).sum()} of {len(whole)} whole outages", flush=True)
    for name in NAMES[:2]:
        five_minutes(name)
