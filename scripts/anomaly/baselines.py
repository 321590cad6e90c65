"""Gives the simple rules a fair chance: a grid of guards, noises, samples and level, with the calendar; the best of each form on `first`
at a budget of false alerts is then shown, unchanged, on the other worlds.

    python baselines.py
"""
import itertools

import numpy as np

import report
import rule
import score
import worlds

GUARDS, NOISES, SAMPLES, BUDGETS = (0.12, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5), (0, 1, 1.5, 2, 3, 4, 5, 7), (1, 2, 3), (0.02, 0.04)


class Prepared:
    def __init__(self, world):
        self.world, x = world, world["x"]
        self.x, self.calendar, usual = x, world["calendar"], rule.weeks_before(x)
        with np.errstate(invalid="ignore", divide="ignore"):
            level = np.exp(np.clip(rule.median_over(np.log((x + 0.5) / (usual + 0.5)), 1, 24), rule.LEVEL_DOWN, rule.LEVEL_UP))
            self.season = {False: usual, True: usual * level}
            self.noise = {key: 1.4826 * rule.median_over(np.abs(x - s), 1, 336) for key, s in self.season.items()}

    def score(self, level, noises, guard, samples):
        season = self.season[level]
        with np.errstate(invalid="ignore"):
            below = self.x <= (1 - rule.guards(self.calendar, guard)) * season
            unusual = season - self.x >= (noises * self.noise[level] if noises else -np.inf)
        return score.score(self.world, rule.both(below & unusual, samples))


if __name__ == "__main__":
    prepared = {name: Prepared(worlds.join([getattr(worlds, name)(s) for s in seeds])) for name, seeds in report.SEEDS.items()}
    tried = 0
    for level, with_noise in itertools.product((False, True), (False, True)):
        form = f"{'level of the day' if level else 'plain'}, {'guard and noise' if with_noise else 'guard alone'}"
        grid = list(itertools.product(NOISES[1:] if with_noise else NOISES[:1], GUARDS, SAMPLES))
        tried += len(grid)
        results = [(prepared["first"].score(level, *setting), setting) for setting in grid]
        for budget in BUDGETS:
            good = [r for r in results if r[0]["false"] <= budget]
            if not good:
                print(f"{form}: nothing within {budget} on first")
                continue
            _, setting = max(good, key=lambda r: r[0]["recall"])
            print(f"{form}, best within {budget} on first: {setting[0]} noises, guard {setting[1]:.0%}, {setting[2]} samples")
            for name, p in prepared.items():
                print(score.line("  " + name, p.score(level, *setting)), flush=True)
    print(f"{tried} settings")
