"""Holds alerts/anomaly.yml in Prometheus' own engine (promtool test rules) against rule.py, sample by sample, and its ALERTS with `for`.

    python validate.py [seed [countries [weeks]]]

promtool only says whether a test holds, so each test here expects nothing, and what it complains about is the answer.
"""
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np

import rule
import worlds

HERE = pathlib.Path(__file__).resolve().parent
RULES = HERE.parent.parent / "alerts"
STEPS = 2  # samples an hour: a value that stands for an hour is seen twice
ALERTS = [f'ALERTS{{alertname="SeasonalGaugeLow",alertstate="firing",severity="{s}"}}' for s in ("critical", "warning")]
ASKED = ["seasonal:expected", "seasonal:noise", "seasonal:guard", "seasonal:low", *ALERTS]


def series(labels, values):
    text = " ".join("_" if np.isnan(v) else f"{v:.0f}" for v in values)
    return f"      - {{series: '{labels}', values: '{text}'}}\n"


def run(x, calendar, first):
    """What Prometheus gives for each expression: countries x steps, from step `first` on."""
    steps = x.shape[1]
    rows = "".join(series(f'device_connections{{job="datapulse",instance="dp",check="devices",country="C{c}"}}', x[c]) for c in range(len(x)))
    rows += "".join(series(f'device_holiday{{job="datapulse",instance="dp",check="days",country="C{c}"}}', calendar[c]) for c in range(len(x)))
    rows += f"      - {{series: 'datapulse_check_up{{job=\"datapulse\",instance=\"dp\",check=\"devices\"}}', values: '1x{steps}'}}\n"
    asked = "".join(
        f"      - {{expr: '{e}', eval_time: {60 // STEPS * t}m, exp_samples: [{{labels: '{{nothing=\"{t}\"}}', value: 0}}]}}\n" for t in range(first, steps) for e in ASKED
    )
    minutes = 60 // STEPS
    text = (
        f"rule_files: [{RULES}/anomaly.yml, {RULES}/devices.yml]\nevaluation_interval: {minutes}m\n"
        "group_eval_order: [datapulse-devices-limits, datapulse-devices, datapulse-seasonal-limits, datapulse-seasonal]\n"
        f"tests:\n  - interval: {minutes}m\n    input_series:\n{rows}    promql_expr_test:\n{asked}"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "test.yml"
        path.write_text(text)
        done = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True)
    # Every question is answered by one complaint, in their order.
    complaints = re.findall(r"^ *got: ?(.*)$", done.stdout + done.stderr, re.M)
    questions = [(t, e) for t in range(first, steps) for e in ASKED]
    if len(complaints) != len(questions):
        sys.exit(f"{len(questions)} questions, {len(complaints)} answers:\n{(done.stdout + done.stderr).strip()[-2000:]}")
    answers = {e: np.full(x.shape, np.nan) for e in ASKED}
    for (t, expression), got in zip(questions, complaints):
        for country, value in re.findall(r'country="C(\d+)"[^}]*\} (\S+?)(?:,|$)', got):
            answers[expression][int(country), t] = float(value)
    return answers


def compare(name, engine, ours):
    """Prints in how many samples both agree, and the largest relative difference."""
    only_engine, only_ours = (~np.isnan(engine) & np.isnan(ours)).sum(), (np.isnan(engine) & ~np.isnan(ours)).sum()
    both = ~np.isnan(engine) & ~np.isnan(ours)
    apart = np.max(np.abs(engine - ours)[both] / np.maximum(np.abs(ours[both]), 1e-9), initial=0)
    print(f"{name:30} {both.sum()} samples in both, {only_engine} only in Prometheus, {only_ours} only in rule.py, differ by {apart:.1e} at most")
    return only_engine + only_ours == 0 and apart < 1e-9


if __name__ == "__main__":
    numbers = [int(a) for a in sys.argv[1:]]
    seed, countries, weeks = numbers + [5, 8, 9][len(numbers):]
    world = worlds.first(seed, countries=countries, weeks=weeks)
    x, calendar = (np.repeat(world[key].astype(float), STEPS, axis=1) for key in ("x", "calendar"))
    first = 4 * 168 * STEPS
    engine = run(x, calendar, first)
    ours = rule.rule(x, calendar > 0, steps=STEPS)
    low = np.where(ours["alert"], ours["below"], np.nan)
    shown = dict(zip(ASKED, (ours["expected"], ours["noise"], np.where(np.isnan(x), np.nan, ours["guard"]), low, *(np.where(ours[s], 1.0, np.nan) for s in ("critical", "warning")))))
    for series in shown.values():
        series[:, :first] = np.nan
    good = [compare(e.replace("alertname=\"SeasonalGaugeLow\",alertstate=\"firing\",", ""), engine[e], shown[e]) for e in ASKED]
    outages = sum(a * STEPS >= first for c in world["outages"] for a, _, _ in c)
    print(f"{countries} countries, {weeks - 4} weeks after the first four, {outages} outages")
    sys.exit(0 if all(good) else 1)
