"""What alerts/anomaly.yml computes, on whole hours and without Prometheus, and simpler rules to compare it with.

Values are countries x hours; nan is a missing sample. Names and limits are those of the rule file; a test there runs both on one world.
"""
import numpy as np

QUICK, QUICK_DEPTH = 4, 0.35       # one sample: so many times the usual deviation, and so far below what is expected
SHARP, SHARP_DEPTH = 10, 0.25      # or less far, and more unusual
SUM, SUM_SAMPLES = 5.2, 4          # two to four samples, each below the guard, are so unusual together
GUARD, GUARD_HOLIDAY, GUARD_BLIND = 0.15, 0.5, 0.2  # by calendar an ordinary day, a holiday, and where there is no calendar
LEVEL_DOWN, LEVEL_UP = -0.5, 0.35  # how far the level of today may differ from that of the past weeks, as a logarithm
YESTERDAY_DOWN = -0.8              # the same for what was so at this hour yesterday
CRITICAL = 0.5                     # so much is missing
FLOOR = 0.02                       # no series is more regular than 2 %


def ago(x, hours):
    """`x offset Nh`"""
    y = np.full_like(x, np.nan)
    y[:, hours:] = x[:, :-hours]
    return y


def middle(stack, least=1):
    """The median over the first axis of what is there, if that is enough."""
    ordered = np.sort(stack, axis=0)
    count = (~np.isnan(stack)).sum(axis=0)
    low, high = np.maximum((count - 1) // 2, 0), np.maximum(count // 2, 0)
    pick = lambda at: np.take_along_axis(ordered, np.minimum(at, len(stack) - 1)[None], 0)[0]
    return np.where(count >= least, (pick(low) + pick(high)) / 2, np.nan)


def median_over(x, first, last):
    """The median of the samples that are `first` to `last` hours old: quantile_over_time(0.5, x[..] offset ..)"""
    hours = x.shape[1]
    padded = np.concatenate([np.full((len(x), last), np.nan), x], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, last - first + 1, axis=1)[:, :hours]
    return np.stack([middle(w.T) for w in windows])


def weeks_before(x, weeks=(1, 2, 3, 4), least=2):
    return middle(np.stack([ago(x, 168 * w) for w in weeks]), least)


def both(condition, hours):
    """True now and in the hours before."""
    held = condition.copy()
    for h in range(1, hours):
        held[:, h:] &= condition[:, :-h]
        held[:, :h] = False
    return held


def deviation(x, expected):
    """Square roots make the noise of counts equal at any size."""
    return 2 * (np.sqrt(x + 0.375) - np.sqrt(expected + 0.375))


def rule(x, calendar=None, guard=None, steps=1, levels=("day", "hours", "yesterday"), tiers=("quick", "sharp", "sum"), noises=1.0):
    """The bundled rule. `calendar` is True on holidays; without one the guard is wider. `steps` samples are an hour.
    `levels`, `tiers` and `noises` leave parts of it out, to see what they are good for."""
    # From `offset Nh` back over a range that ends 2 minutes before a half hour, as the file has them.
    span = lambda series, offset, hours: median_over(series, offset * steps, int((offset + hours - 2 / 60) * steps))
    before = lambda series, hours: ago(series, hours * steps) if hours else series
    with np.errstate(invalid="ignore", divide="ignore"):
        usual = middle(np.stack([before(x, 168 * w) for w in (1, 2, 3, 4)]), 2)
        ratio = np.log((x + 0.5) / (usual + 0.5))
        day = np.clip(span(ratio, 1, 23.5), LEVEL_DOWN, LEVEL_UP)
        hours = np.clip(span(ratio, 3, 3.5), LEVEL_DOWN, LEVEL_UP)
        yesterday = np.clip(before(ratio, 24), YESTERDAY_DOWN, LEVEL_UP)
        known = {"day": day, "hours": hours, "yesterday": yesterday}
        expected = usual * np.exp(np.fmin.reduce([known[name] for name in levels]) if levels else 0)
        apart = np.abs(deviation(x, expected))
        noise = np.fmax(1.4826 * span(apart, 1, 167.5), np.sqrt(1 + FLOOR**2 * expected))
        if guard is None:
            guard = np.full(x.shape, GUARD_BLIND) if calendar is None else np.where(calendar, GUARD_HOLIDAY, GUARD)
        below = 1 - x / expected
        wanted = noises * noise
        # Guard and noise of now, values of now and of the hours before.
        lasting = lambda n: np.logical_and.reduce([before(below, h) >= guard for h in range(n)]) & (sum(before(apart, h) for h in range(n)) >= SUM * wanted)
        ways = {
            "quick": lambda: (below >= QUICK_DEPTH) & (apart >= QUICK * wanted),
            "sharp": lambda: (below >= SHARP_DEPTH) & (apart >= SHARP * wanted),
            "sum": lambda: np.logical_or.reduce([lasting(n) for n in range(2, SUM_SAMPLES + 1)]),
        }
        starts = (below >= guard) & np.logical_or.reduce([ways[name]() for name in tiers])
        missing = 1 - x / (usual * np.exp(day))
    # Once told, it is low until it is back at the level of the day.
    low, goes_on, recently = starts.copy(), np.zeros_like(starts), max(1, 33 * steps // 60)
    told = Told(x.shape, steps)
    for t in range(x.shape[1]):
        goes_on[:, t] = told.fires[:, max(0, t - recently):t].any(axis=1) & (missing[:, t] >= guard[:, t])
        low[:, t] |= goes_on[:, t]
        share = np.where(goes_on[:, t], missing[:, t], below[:, t])
        # 0 is for DeviceConnectionsZero.
        told.step(t, low[:, t] & (x[:, t] > 0), share >= CRITICAL)
    return dict(usual=usual, expected=expected, noise=noise, guard=guard, below=np.where(goes_on, missing, below), starts=starts, alert=low,
                critical=told.by_severity[0], warning=told.by_severity[1])


class Told:
    """The alerts of two severities with for: 5m and keep_firing_for: 10m. Where a sample is an hour, both are nothing."""

    def __init__(self, shape, steps):
        self.wait, self.linger = (0, 0) if steps == 1 else (1, max(1, 10 * steps // 60))
        self.by_severity = np.zeros((2, *shape), bool)
        self.fires = np.zeros(shape, bool)
        self.held, self.over = np.zeros((2, shape[0]), int), np.zeros((2, shape[0]), int)

    def step(self, t, low, critical):
        for s, holds in enumerate((low & critical, low & ~critical)):
            before = self.by_severity[s, :, t - 1] if t else np.zeros(len(low), bool)
            self.held[s] = np.where(holds, self.held[s] + 1, 0)
            self.over[s] = np.where(holds, 0, self.over[s] + 1)
            self.by_severity[s, :, t] = holds & (before | (self.held[s] > self.wait)) | ~holds & before & (self.over[s] <= self.linger)
            self.fires[:, t] |= self.by_severity[s, :, t]


# --- simpler rules ---


def guards(calendar, ordinary=GUARD):
    return np.where(calendar, GUARD_HOLIDAY, ordinary)


def simple(x, guard, level=False, noises=0.0, hours=2):
    """Below the median of the past weeks at this hour by the guard, for two samples; with `level` at the level of the last day; with `noises`
    also so many usual deviations below it."""
    with np.errstate(invalid="ignore", divide="ignore"):
        season = weeks_before(x)
        if level:
            season = season * np.exp(np.clip(median_over(np.log((x + 0.5) / (season + 0.5)), 1, 24), LEVEL_DOWN, LEVEL_UP))
        noise = 1.4826 * median_over(np.abs(x - season), 1, 336) if noises else 0
        return both((x <= (1 - guard) * season) & (season - x >= noises * noise), hours)


def knowing(world, guard):
    """With the truth instead of an expectation, and no noise but that of a count: what no rule can do."""
    with np.errstate(invalid="ignore", divide="ignore"):
        truth, x = world["truth"], world["x"]
        below, apart = 1 - x / truth, -deviation(x, truth)
        lasting = np.logical_or.reduce([both(below >= guard, n) & (sum(ago(apart, h) if h else apart for h in range(n)) >= SUM) for n in range(2, SUM_SAMPLES + 1)])
        return (below >= guard) & ((below >= QUICK_DEPTH) & (apart >= QUICK) | (below >= SHARP_DEPTH) & (apart >= SHARP) | lasting)


def two_seasons(x, tiers=((5, 0.5, 1), (2, 0.25, 2))):
    """An earlier rule: weeks and days must both say so, 16 recorded series."""
    with np.errstate(invalid="ignore", divide="ignore"):
        views = []
        for season in (weeks_before(x), middle(np.stack([ago(x, 24 * d) for d in range(1, 8)]), 3)):
            level = np.clip(median_over(np.log((x + 0.5) / (season + 0.5)), 1, 24), -0.35, 0.35)
            expected = season * np.exp(np.nan_to_num(level))
            apart = deviation(x, expected)
            views.append((apart / np.fmax(1.4826 * median_over(np.abs(apart), 1, 336), np.sqrt(1 + FLOOR**2 * expected)), expected))
        (zw, ew), (zd, ed) = views
        z = np.where(np.isnan(zw), zd, np.where(np.isnan(zd), zw, np.where(zw * zd > 0, np.where(np.abs(zw) <= np.abs(zd), zw, zd), 0)))
        expected = np.where(np.isnan(ew), ed, np.where(np.isnan(ed), ew, np.where(zw < 0, np.fmin(ew, ed), np.fmax(ew, ed))))
        return np.logical_or.reduce([both((z <= -k) & (1 - x / np.maximum(expected, 1e-9) >= deep), hours) for k, deep, hours in tiers])
