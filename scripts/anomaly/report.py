"""The figures of docs/anomaly.md: the bundled rule, simpler ones with the same guard, and the rule without some of its parts.

    python report.py [world ..]        (first second third; default all)
"""
import sys

import numpy as np

import rule
import score
import worlds

OTHER = range(10, 14)  # seeds of `first` that nothing was tuned on
NEW = {"first": range(30, 42), "second": range(30, 38)}  # seeds that the last change was tuned on
SEEDS = {"first": range(4), "second": range(3), "third": range(4)}


def rows(world):
    x, calendar = world["x"], world["calendar"]
    flat = lambda share: np.full(x.shape, share)
    full = calendar | world["odd"]
    yield "bundled, with a calendar", rule.rule(x, calendar)["alert"]
    yield "bundled, no calendar", rule.rule(x)["alert"]
    yield "bundled, every odd day known", rule.rule(x, full)["alert"]
    yield "week and day agree", rule.two_seasons(x)
    yield "week and day agree, calendar", rule.two_seasons(x) & ~calendar
    yield "knows the truth", rule.knowing(world, flat(rule.GUARD))
    for guard in (0.25, 0.33):
        yield f"plain ratio, {guard:.0%}", rule.simple(x, flat(guard))
        yield f"plain ratio, {guard:.0%}, calendar", rule.simple(x, rule.guards(calendar, guard))
    yield "level of the day, 25%", rule.simple(x, flat(0.25), level=True)
    yield "level of the day, 25%, calendar", rule.simple(x, rule.guards(calendar, 0.25), level=True)
    yield "weekly median, 4 MAD", rule.simple(x, flat(0.0), noises=4)
    yield "weekly median, 4 MAD, 25%", rule.simple(x, flat(0.25), noises=4)
    yield "weekly median, 2 MAD, 25%", rule.simple(x, flat(0.25), noises=2)
    yield "weekly median, 2 MAD, 25%, calendar", rule.simple(x, rule.guards(calendar, 0.25), noises=2)
    for level in ("day", "hours", "yesterday"):
        yield f"bundled without level: {level}", rule.rule(x, calendar, levels=[n for n in ("day", "hours", "yesterday") if n != level])["alert"]
    yield "bundled, guard only, no noise", rule.rule(x, calendar, noises=0.0)["alert"]
    for tier in ("quick", "sharp", "sum"):
        yield f"bundled without {tier}", rule.rule(x, calendar, tiers=[n for n in ("quick", "sharp", "sum") if n != tier])["alert"]
    yield "bundled, 25% on all days but holidays", rule.rule(x, guard=rule.guards(calendar, 0.25))["alert"]


if __name__ == "__main__":
    for name in sys.argv[1:] or SEEDS:
        world = worlds.join([getattr(worlds, name)(seed) for seed in SEEDS[name]])
        print(f"\n{name}: {len(world['x'])} series, {world['x'].shape[1] // 168} weeks, the first four not scored")
        for what, alert in rows(world):
            print(score.line(what, score.score(world, alert)), flush=True)
        if name in NEW:
            world = worlds.join([getattr(worlds, name)(seed) for seed in NEW[name]])
            print(score.line("new seeds: bundled, with a calendar", score.score(world, rule.rule(world["x"], world["calendar"])["alert"])), flush=True)
        if name == "first":
            world = worlds.join([worlds.first(seed) for seed in OTHER])
            print(score.line("other seeds: bundled, with a calendar", score.score(world, rule.rule(world["x"], world["calendar"])["alert"])), flush=True)
