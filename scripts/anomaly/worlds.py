"""Worlds of device counts: hourly values of many countries with outages whose place is known.

Three worlds that share no code but the bookkeeping. The rule was made on `first`. `second` was kept aside for it, showed that its first form
took a holiday for an outage wherever a holiday is like a Sunday, and has been a world to tune on since. `third` was kept aside for the
form that is bundled: no limit was searched on it (docs/anomaly.md says how often it was looked at). A world is a dictionary:
  x         values, countries x hours; nan where a sample is missing. The value of hour h covers (h, h+1] and is known at its end
  calendar  True in the hours of a day that the configuration knows as a holiday of that country
  odd       True in the hours of any holiday or bad day, known or not (only to sort false alerts)
  outages   a list for each country of (start, end, depth), in hours
  truth     the values to be expected if there were no outages: what nobody can know
  size      the mean value
"""
import numpy as np

WEEK, DAY = 168, 24


def outages_of(rng, hours, every_days, length, depth, first=3 * DAY):
    """Outages with at least a day between them."""
    found, at = [], first + rng.exponential(every_days * DAY)
    while True:
        long, deep = length(rng), depth(rng)
        if at + long > hours - DAY:
            return found
        found.append((at, at + long, deep))
        at += long + DAY + rng.exponential(every_days * DAY)


def remaining(outage, hours, ramp=0.0):
    """The share of devices that is left in each hour; with a ramp an outage ends slowly, over that many hours."""
    start, end, depth = outage
    left = np.ones(hours)
    for hour in range(int(start), min(int(end + ramp) + 1, hours)):
        # Twenty looks within the hour.
        moments = hour + (np.arange(20) + 0.5) / 20
        shape = np.where(moments < start, 0.0, np.where(moments < end, 1.0, np.clip(1 - (moments - end) / max(ramp, 1e-9), 0, 1)))
        left[hour] = 1 - depth * shape.mean()
    return left


def first(seed, countries=24, weeks=26):
    """Cosine-like days, multiplicative weekends, AR(1) noise, holidays of a day or two, level shifts, summer time."""
    rng = np.random.default_rng([1, seed])
    hours = weeks * WEEK
    t = np.arange(hours)
    sizes = np.exp(rng.uniform(np.log(30), np.log(60000), countries))
    x, calendar, odd, outages, truth = [], [], [], [], []
    for size in sizes:
        zone = int(rng.integers(-11, 12))
        change = int(rng.integers(hours // 4, 3 * hours // 4)) if rng.random() < 0.5 else hours + 1
        local = t + zone + (t >= change)
        hour, weekday = local % DAY, (local // DAY) % 7
        weekend = np.isin(weekday, (4, 5) if rng.random() < 0.2 else (5, 6))
        peak, amplitude = rng.uniform(11, 20), rng.uniform(0.1, 0.8)
        turn = 2 * np.pi * (hour - peak - rng.uniform(0, 2) * weekend) / DAY
        level = 1 + amplitude * (0.75 * np.cos(turn) + rng.uniform(0, 0.3) * np.cos(2 * turn))
        level = np.maximum(level, 0.06) * np.where(weekend, rng.uniform(0.5, 1.1), 1.0) * (1 + rng.uniform(-0.04, 0.04, 7)[weekday])
        level *= size * np.exp(rng.uniform(-0.006, 0.02) * t / WEEK)
        for _ in range(rng.poisson(0.8)):
            level[int(rng.integers(3 * WEEK, hours)):] *= np.exp(rng.uniform(-0.25, 0.3))
        noise, keep, spread = np.zeros(hours), rng.uniform(0.5, 0.9), rng.uniform(0.008, 0.04)
        shocks = rng.normal(0, spread * np.sqrt(1 - keep**2), hours)
        for h in range(1, hours):
            noise[h] = keep * noise[h - 1] + shocks[h]
        level *= np.exp(noise)
        known, strange = np.zeros(hours, bool), np.zeros(hours, bool)
        day = local // DAY
        for _ in range(rng.poisson(weeks / 5)):
            first, long = int(rng.integers(day[0] + 1, day[-1] - 3)), int(rng.choice([1, 1, 2, 3]))
            inside = (day >= first) & (day < first + long)
            effect = np.where(inside, np.log(rng.uniform(0.6, 1.08)), 0.0)
            if rng.random() < 0.5:  # half of them come with the morning, half at midnight sharp
                effect = np.convolve(effect, np.ones(5) / 5, mode="same")
            level *= np.exp(effect)
            strange |= effect != 0
            if rng.random() < 0.8:
                known |= inside
        for _ in range(rng.poisson(weeks / 26)):  # a calendar also has days on which nothing happens
            known |= day == int(rng.integers(day[0], day[-1]))
        for _ in range(rng.poisson(weeks / 8)):  # bad days, smooth and in no calendar
            middle, long = rng.uniform(0, hours), rng.uniform(6, 20)
            bump = np.exp(-0.5 * ((t - middle) / long * 2) ** 2)
            level *= 1 - rng.uniform(0.05, 0.25) * bump
            strange |= bump > 0.1
        mine = outages_of(rng, hours, 25, lambda r: r.uniform(1, 12), lambda r: r.uniform(0.15, 1.0))
        truth.append(level)
        for outage in mine:
            level = level * remaining(outage, hours)
        value = rng.poisson(level).astype(float)
        value[rng.random(hours) < 0.005] = np.nan
        for _ in range(rng.poisson(1)):
            gap = int(rng.integers(0, hours - 10))
            value[gap:gap + int(rng.integers(2, 9))] = np.nan
        x.append(value), calendar.append(known), odd.append(strange), outages.append(mine)
    return dict(x=np.array(x), calendar=np.array(calendar), odd=np.array(odd), outages=outages, truth=np.array(truth), size=sizes)


def second(seed, countries=30, weeks=24):
    """Free-form days out of random smooth curves, clumped counts, a season that moves, Sundays as holidays, outages that heal slowly
    and hit neighbours together."""
    rng = np.random.default_rng([2, seed])
    hours = weeks * WEEK
    t = np.arange(hours)
    regions = rng.integers(0, 5, countries)
    sizes = 10 ** rng.normal(3.0, 0.8, countries).clip(1.5, 5)
    # Days off and outages of a whole region.
    shared_days = {r: [(int(rng.integers(7, weeks * 7 - 2)), int(rng.integers(1, 5))) for _ in range(rng.poisson(weeks / 10))] for r in range(5)}
    shared_outages = {r: outages_of(rng, hours, 80, lambda q: q.gamma(2, 1.5) + 1, lambda q: q.beta(2, 1.5) * 0.85 + 0.15) for r in range(5)}
    wind = np.convolve(rng.normal(0, 0.012, hours + 47), np.exp(-np.arange(48) / 8), mode="valid") * 0.25  # what all countries share
    x, calendar, odd, outages, truth = [], [], [], [], []
    for c in range(countries):
        shift = int(rng.integers(0, DAY))
        day, hour = (t + shift) // DAY, (t + shift) % DAY
        weekday = day % 7
        curve = lambda rough: np.exp(sum(rng.normal(0, rough / k) * np.cos(2 * np.pi * k * np.arange(DAY) / DAY + rng.uniform(0, 6.3)) for k in (1, 2, 3, 4)))
        work = curve(0.45)
        sunday = work ** rng.uniform(0.5, 1.0) * curve(0.12) * rng.uniform(0.55, 1.0)
        shapes = np.array([work * rng.uniform(0.94, 1.06) for _ in range(5)] + [(work + sunday) / 2, sunday])
        plan = weekday.copy()
        known, strange = np.zeros(hours, bool), np.zeros(hours, bool)
        own_days = [(int(rng.integers(7, weeks * 7 - 2)), 1) for _ in range(rng.poisson(weeks / 8))]
        for first, long in own_days + shared_days[regions[c]]:
            inside = (day >= first) & (day < first + long)
            plan[inside] = 6
            strange |= inside
            if rng.random() < 0.85:
                known |= inside
        level = shapes[plan, hour]
        if rng.random() < 0.2:  # four weeks in which people live later and less by day
            begin = int(rng.integers(5, weeks - 5)) * 7
            inside = (day >= begin) & (day < begin + 28)
            level = np.where(inside, 0.85 * shapes[plan, (hour - 2) % DAY], level)
            strange |= (day >= begin) & (day < begin + 2)
        level = level * sizes[c] / level.mean()
        level *= 1 + rng.uniform(-0.2, 0.6) / (1 + np.exp(-(t - rng.uniform(0, hours)) / (3 * WEEK)))  # growth that ends
        if rng.random() < 0.4:
            level *= np.where(t > rng.uniform(4 * WEEK, hours), rng.uniform(0.82, 1.3), 1.0)
        slow, quick = rng.uniform(0.003, 0.02), rng.uniform(0.002, 0.015)
        drift = np.convolve(rng.standard_t(5, hours + 35), np.exp(-np.arange(36) / rng.uniform(3, 9)), mode="valid")
        level *= np.exp(slow * drift + rng.normal(0, quick, hours) + rng.uniform(0.3, 1.3) * wind)
        mine = outages_of(rng, hours, 30, lambda q: float(np.clip(np.exp(q.normal(1.0, 0.8)), 0.8, 16)), lambda q: q.beta(1.3, 1.1) * 0.85 + 0.15)
        for outage in shared_outages[regions[c]]:
            if rng.random() < 0.7 and all(outage[1] + DAY < a or b + DAY < outage[0] for a, b, _ in mine):
                mine.append((outage[0], outage[1], float(np.clip(outage[2] * rng.uniform(0.8, 1.1), 0.15, 1))))
        mine.sort()
        truth.append(level)
        for outage in mine:
            level = level * remaining(outage, hours, ramp=rng.choice([0, 0, 1, 2]))
        clump = rng.uniform(1.0, 1.6)  # variance of a count over its mean
        mean = np.maximum(level, 1e-6)
        value = rng.poisson(mean if clump < 1.05 else rng.gamma(mean / (clump - 1), clump - 1)).astype(float)
        lost = t[rng.random(hours) < 0.004]
        for h in lost:
            value[h:h + int(rng.geometric(0.6))] = np.nan
        x.append(value), calendar.append(known), odd.append(strange), outages.append(mine)
    return dict(x=np.array(x), calendar=np.array(calendar), odd=np.array(odd), outages=outages, truth=np.array(truth), size=sizes)


def third(seed, countries=28, weeks=25):
    """Devices of four kinds with habits of their own, on one to three carriers; a carrier fails and takes its share along. After an outage
    all come back at once and a little more. Fleets are bought and scrapped. Sometimes an hour is lost for all countries."""
    rng = np.random.default_rng([3, seed])
    hours = weeks * WEEK
    t = np.arange(hours)
    bell = lambda at, centre, width: np.exp(-0.5 * (((at - centre + 12) % DAY - 12) / width) ** 2)
    nobody = rng.random(hours) < 0.002  # the lake was late: no country has a sample
    x, calendar, odd, outages, truth, sizes = [], [], [], [], [], []
    for _ in range(countries):
        fleet = 10 ** rng.uniform(1.8, 4.9)
        change = int(rng.integers(8 * WEEK, 18 * WEEK)) if rng.random() < 0.4 else 10**9
        clock = t + int(rng.integers(0, DAY)) + np.where(t > change, rng.choice([-1, 1]), 0)
        hour, day = clock % DAY + 0.5, clock // DAY
        rest = np.isin(day % 7, (4, 5) if rng.random() < 0.15 else (5, 6))
        known, strange = np.zeros(hours, bool), np.zeros(hours, bool)
        for _ in range(rng.poisson(weeks * 7 / 28)):
            date, long = int(rng.integers(10, weeks * 7 - 4)), int(rng.choice([1, 1, 1, 2, 4]))
            free = (day >= date) & (day < date + long)
            strange |= free
            known |= free & (rng.random() < 0.9)
        off = rest | strange
        # Vehicles, offices, homes, and machines that never sleep.
        shares = rng.dirichlet([2, 2, 2, 1.5])
        awake = (
            shares[0] * np.where(off, rng.uniform(0.4, 0.9), 1) * (0.05 + 0.7 * bell(hour, rng.uniform(7, 9), 1.8) + 0.75 * bell(hour, rng.uniform(17, 19), 2.2) + 0.35 * bell(hour, 13, 3))
            + shares[1] * np.where(off, rng.uniform(0.15, 0.6), 1) * (0.1 + 0.8 * bell(hour, 13, 3.6))
            + shares[2] * np.where(off, rng.uniform(0.95, 1.2), 1) * (0.15 + 0.3 * bell(hour, 8, 2.5) + 0.7 * bell(hour, rng.uniform(19, 21.5), 3))
            + shares[3] * 0.93
        )
        bought = fleet * np.exp(np.cumsum(rng.normal(0.0004, 0.0016, hours // DAY + 2)))[t // DAY]
        for _ in range(rng.poisson(0.5)):
            bought = np.where(t >= rng.integers(5 * WEEK, hours), bought * rng.uniform(0.85, 1.25), bought)
        mood, pull, shake = np.zeros(hours), rng.uniform(0.05, 0.4), rng.uniform(0.004, 0.025)
        for h in range(1, hours):
            mood[h] = mood[h - 1] * (1 - pull) + shake * rng.normal()
        for _ in range(rng.poisson(weeks / 9)):  # a storm, a match, a strike: some hours with fewer
            begin, long, less = rng.uniform(0, hours), rng.uniform(3, 14), rng.uniform(0.04, 0.22)
            dent = np.clip(np.minimum((t - begin) / 3, (begin + long - t) / 3), 0, 1)
            mood += np.log(1 - less * dent)
            strange |= dent > 0
        carriers = rng.dirichlet(np.ones(int(rng.integers(1, 4))) * 3)
        mine, left, back = [], np.ones(hours), np.zeros(hours)
        for start, end, severity in outages_of(rng, hours, 22, lambda r: float(np.clip(r.exponential(3.2) + 0.7, 0.7, 14)), lambda r: r.choice([1.0, r.uniform(0.3, 1.0)])):
            depth = severity * rng.choice(carriers)
            if depth < 0.15:
                continue
            mine.append((start, end, float(depth)))
            left *= remaining((start, end, depth), hours, ramp=rng.choice([0, 0.5]))
            after = t - end
            back += np.where(after > 0, rng.uniform(0, 0.25) * depth * np.exp(-np.maximum(after, 0) / 1.5), 0)
        people = np.clip(awake * np.exp(mood) * (1 + back), 0, 0.995) * left
        truth.append(bought * np.clip(awake * np.exp(mood), 0, 0.995))
        value = rng.binomial(np.maximum(bought, 1).astype(int), people).astype(float)
        value[nobody | (rng.random(hours) < 0.003)] = np.nan
        x.append(value), calendar.append(known), odd.append(strange), outages.append(mine), sizes.append(np.nanmean(value))
    return dict(x=np.array(x), calendar=np.array(calendar), odd=np.array(odd), outages=outages, truth=np.array(truth), size=np.array(sizes))


def join(worlds):
    """Several seeds as one world; hours must be equal."""
    return {
        key: sum((w[key] for w in worlds), []) if key == "outages" else np.concatenate([w[key] for w in worlds])
        for key in worlds[0]
    }
