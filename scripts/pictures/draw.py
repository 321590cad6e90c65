"""Draws every dashboard of dashboards/ as docs/images/dashboards/<name>.png, and as narrow as a phone shows it (<name>-phone.png, the beginning), from real answers of Prometheus and with our own strokes: this is not Grafana.

    python draw.py SOURCES OUT [board ..]

SOURCES is a JSON file, a list of {url, start, end, interval, made_up, first_for: [boards]}. A panel is drawn from the first source that has data for it.
Needs chromium, and pngquant to make the files small.
"""
import html
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import ask
from units import show, ticks

ROOT = pathlib.Path(__file__).resolve().parents[2]
WIDE, PHONE, CELL, GAP, TOP = 1600, 500, 30, 8, 64
# Chromium has no narrower window. The height of the narrow picture: what one sees by scrolling a few times.
PHONE_HEIGHT = 2400
COLOURS = {"green": "#4cae6e", "red": "#d9534f", "orange": "#e0903c", "blue": "#4f8edb", "text": "#c9ccd3", "yellow": "#d8bf43", "purple": "#9b77cf"}
PALETTE = ["#63b179", "#dcb84a", "#56a9c9", "#dd8247", "#d65d5a", "#5478c4", "#ab63a8", "#8c7ac0", "#94a851", "#3f9a9a", "#c78da0", "#8a8f98"]
GROUND, PANEL, LINE, WEAK = "#111217", "#181b1f", "#2b2e35", "#8e929b"


def text(x, y, words, size=12, colour="#c9ccd3", anchor="start", weight=400):
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}">{html.escape(words)}</text>'


def box(x, y, w, h, colour, extra=""):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(w, 0):.1f}" height="{max(h, 0):.1f}" fill="{colour}" {extra}/>'


def cut(words, width, size=11):
    """What fits, measured by the mean width of a letter."""
    most = max(int(width / (size * 0.56)), 1)
    return words if len(words) <= most else words[: most - 1] + "…"


def by_threshold(value, defaults):
    colour = "text"
    for step in defaults.get("thresholds", {}).get("steps", []):
        if step["value"] is None or (value is not None and value >= step["value"]):
            colour = step["color"]
    return COLOURS[colour]


def mapped(value, mappings):
    """Words and colour that a value stands for."""
    for mapping in mappings or []:
        found = mapping["options"].get(value if isinstance(value, str) else f"{value:.0f}" if value is not None else "null")
        if found:
            return found["text"], COLOURS[found.get("color", "text")]
    return None


def properties(panel, name):
    """Of the overrides for the line or column with this name."""
    found = {}
    for override in panel["fieldConfig"].get("overrides", []):
        kind, options = override["matcher"]["id"], override["matcher"]["options"]
        if kind == "byName" and options == name or kind == "byRegexp" and re.search(options.strip("/"), name):
            found.update({one["id"]: one["value"] for one in override["properties"]})
    return found


def stat(panel, results, area):
    x, y, w, h = area
    defaults = panel["fieldConfig"]["defaults"]
    found = [(ask.legend(target, labels), value) for target, result in zip(panel["targets"], results) for labels, value in result]
    if not found:
        return text(x + w / 2, y + h / 2, "No data", 16, WEAK, "middle")
    name, value = found[0]
    word = mapped(value, defaults.get("mappings"))
    shown = name if panel["options"]["textMode"] == "name" else word[0] if word else show(value, defaults["unit"], defaults.get("decimals"))
    colour = word[1] if word else by_threshold(value, defaults)
    return box(x - 6, y, w + 12, h + 4, colour, 'rx="3" fill-opacity="0.85"') + text(x + w / 2, y + h / 2 + 14, shown, 34, "#fff", "middle", 600)


def line_chart(panel, results, area, span):
    x, y, w, h = area
    custom, unit = panel["fieldConfig"]["defaults"]["custom"], panel["fieldConfig"]["defaults"]["unit"]
    decimals = panel["fieldConfig"]["defaults"].get("decimals")
    start, end, step = span
    lines = [(ask.legend(target, labels), dict(values)) for target, result in zip(panel["targets"], results) for labels, values in result]
    if not lines:
        return text(x + w / 2, y + h / 2, "No data", 14, WEAK, "middle")
    lines.sort(key=lambda line: -max((v for v in line[1].values() if v is not None), default=0))
    rows = min(len(lines), 3 if h < 240 else 5)
    bottom = y + h - rows * 15 - 26
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    bars = custom.get("drawStyle") == "bars"
    every = sorted({at for _, values in lines for at in values})
    sums = {at: sum(values.get(at) or 0 for _, values in lines) for at in every} if stacked else {}
    values = [v for _, points in lines for v in points.values() if v is not None]
    low = min([0] + values) if "min" in panel["fieldConfig"]["defaults"] or min(values) < 0 else min(values)
    high = panel["fieldConfig"]["defaults"].get("max") or max(list(sums.values()) + values)
    if high <= low:
        high = low + (abs(low) * 0.1 or 1)
    marks = ticks(low, high, unit)
    low, high = min(low, marks[0]), max(high, marks[-1])
    left = x + 58
    px = lambda at: left + (at - start) / (end - start) * (x + w - left)
    py = lambda value: bottom - (value - low) / (high - low) * (bottom - y - 6)
    out = []
    for mark in marks:
        out.append(f'<path d="M{left} {py(mark):.1f}H{x + w}" stroke="{LINE}"/>' + text(left - 6, py(mark) + 4, show(mark, unit), 10, WEAK, "end"))
    out.append(time_axis(start, end, px, bottom + 13, w))
    below, shapes, legend = dict.fromkeys(every, 0), {}, []
    for index, (name, points) in enumerate(lines):
        extra = properties(panel, name)
        colour = COLOURS[extra["color"]["fixedColor"]] if "color" in extra else PALETTE[index % len(PALETTE)]
        if index < rows:
            known = [v for v in points.values() if v is not None]
            legend.append((name, colour, show(points[max(points)], unit, decimals), show(max(known), unit, decimals) if known else ""))
        if stacked:
            points = {at: below[at] + (points.get(at) or 0) for at in every}
        shapes[name] = [(px(at), py(value)) for at, value in sorted(points.items()) if value is not None]
        if bars:
            wide = max((px(start + step) - left) * 0.8, 1.5)
            for at, value in points.items():
                if value is not None and value != below.get(at, 0) * stacked and px(at) - wide / 2 > left - 1:
                    foot = py(below[at]) if stacked else py(0)
                    out.append(box(px(at) - wide / 2, py(value), wide, foot - py(value), colour, 'fill-opacity="0.75"'))
        else:
            floor = [(px(at), py(below[at])) for at in every] if stacked else None
            out.append(one_line(points, px, py, step, colour, custom, extra, floor, min(py(0), bottom)))
        if stacked:
            below = {at: points[at] for at in every}
    for name, shape in shapes.items():
        other = shapes.get(properties(panel, name).get("custom.fillBelowTo"))
        if other:
            path = " ".join(f"{a:.1f},{b:.1f}" for a, b in shape + other[::-1])
            out.append(f'<polygon points="{path}" fill="{COLOURS["text"]}" fill-opacity="0.14"/>')
    for row, (name, colour, last, most) in enumerate(legend):
        at = bottom + 30 + row * 15
        out.append(box(x, at - 6, 14, 3, colour) + text(x + 20, at, cut(name, w - 170), 11) + text(x + w - 75, at, last, 11, WEAK, "end") + text(x + w, at, most, 11, WEAK, "end"))
    if rows < len(lines):
        out.append(text(x, bottom + 29 + rows * 15, f"and {len(lines) - rows} more", 9, WEAK))
    return "".join(out)


def one_line(points, px, py, step, colour, custom, extra, floor, foot):
    """With gaps where samples are missing."""
    parts, before = [[]], None
    for at, value in sorted(points.items()):
        if value is None or (before is not None and at - before > step * 1.5):
            parts.append([])
        if value is not None:
            if custom.get("lineInterpolation") == "stepAfter" and parts[-1]:
                parts[-1].append((px(at), parts[-1][-1][1]))
            parts[-1].append((px(at), py(value)))
        before = at
    dash = 'stroke-dasharray="8 6"' if "custom.lineStyle" in extra else ""
    width = extra.get("custom.lineWidth", 1) * 1.4
    fill = extra.get("custom.fillOpacity", custom.get("fillOpacity", 0)) / 100
    out = []
    for part in filter(None, parts):
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in part)
        if len(part) == 1:
            out.append(f'<circle cx="{part[0][0]:.1f}" cy="{part[0][1]:.1f}" r="1.5" fill="{colour}"/>')
            continue
        ground = floor[::-1] if floor else [(part[-1][0], foot), (part[0][0], foot)]
        if fill and "custom.fillBelowTo" not in extra:
            closed = path + " " + " ".join(f"{a:.1f},{b:.1f}" for a, b in ground)
            out.append(f'<polygon points="{closed}" fill="{colour}" fill-opacity="{fill:.2f}"/>')
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:.1f}" {dash}/>')
    return "".join(out)


def time_axis(start, end, px, y, w):
    span, most = end - start, max(int(w / 75), 2)
    every = next((e for e in (15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 86400, 172800) if span / e <= most), 604800)
    form = "%H:%M:%S" if every < 60 else "%H:%M" if every < 86400 else "%d %b"
    first = int(start // every + 1) * every
    return "".join(text(px(at), y, time.strftime(form, time.gmtime(at)), 10, WEAK, "middle") for at in range(first, int(end) + 1, every) if px(at) < px(end) - 22)


def timeline(panel, results, area, span):
    x, y, w, h = area
    start, end, step = span
    mappings = panel["fieldConfig"]["defaults"]["mappings"]
    lines = [(ask.legend(target, labels), values) for target, result in zip(panel["targets"], results) for labels, values in result]
    if not lines:
        return text(x + w / 2, y + h / 2, "No data", 14, WEAK, "middle")
    lines.sort()
    left = x + min(max(len(name) for name, _ in lines) * 6.8 + 10, w * 0.4)
    px = lambda at: left + (at - start) / (end - start) * (x + w - left)
    high = min((h - 20) / len(lines), 34)
    out = [time_axis(start, end, px, y + high * len(lines) + 14, w)]
    for row, (name, values) in enumerate(lines):
        top, runs = y + row * high, []
        for at, value in values:
            if runs and runs[-1][2] == value and at - runs[-1][1] <= step * 1.5:
                runs[-1][1] = at
            else:
                if runs and at - runs[-1][1] <= step * 1.5:
                    runs[-1][1] = at
                runs.append([at, at, value])
        out.append(text(left - 6, top + high / 2 + 4, cut(name, left - x - 4), 11, anchor="end"))
        for begin, over, value in runs:
            word, colour = mapped(value, mappings) or (show(value, "none"), COLOURS["text"])
            a, b = px(begin), min(px(over + (step if over == begin else 0)), x + w)
            out.append(box(a, top + 2, max(b - a, 2), high - 4, colour, 'fill-opacity="0.72"'))
            if b - a > len(word) * 7 + 6 and high >= 14:
                out.append(text(a + 5, top + high / 2 + 4, word, 11, "#fff"))
    return "".join(out)


def table(panel, results, area):
    x, y, w, h = area
    rows = {}
    for target, result in zip(panel["targets"], results):
        for labels, value in result:
            labels = {key: words for key, words in labels.items() if key != "__name__"}
            column = "Value" if len(panel["targets"]) == 1 else f"Value #{target['refId']}"
            rows.setdefault(tuple(sorted(labels.items())), dict(labels))[column] = value
    options = next((one["options"] for one in panel.get("transformations", []) if one["id"] == "organize"), {})
    hidden, order, names = options.get("excludeByName", {}), options.get("indexByName", {}), options.get("renameByName", {})
    columns = sorted({key for row in rows.values() for key in row if not hidden.get(key)}, key=lambda key: (order.get(key, 99), key))
    rows = merge(rows.values(), [key for key in columns if not key.startswith("Value")])
    if not rows:
        return text(x + w / 2, y + h / 2, "No data", 14, WEAK, "middle")
    for sort in panel["options"].get("sortBy", []):
        column = next((key for key in columns if names.get(key, key) == sort["displayName"]), None)
        rows.sort(key=lambda row: (row.get(column) is not None, row.get(column) or 0), reverse=True) if sort["desc"] else rows.sort(key=lambda row: str(row.get(column)))
    fixed = {key: properties(panel, names.get(key, key)).get("custom.width") for key in columns}
    rest = (w - sum(filter(None, fixed.values()))) / max(sum(not wide for wide in fixed.values()), 1)
    edges = [x]
    for key in columns:
        edges.append(edges[-1] + (fixed[key] or rest))
    out = [text(edges[i], y + 12, cut(names.get(key, key), edges[i + 1] - edges[i] - 6), 11, COLOURS["blue"], weight=600) for i, key in enumerate(columns)]
    for number, row in enumerate(rows[: int((h - 16) // 24)]):
        at = y + 34 + number * 24
        out.append(f'<path d="M{x} {at - 16}H{x + w}" stroke="{LINE}"/>')
        for i, key in enumerate(columns):
            extra, value = properties(panel, names.get(key, key)), row.get(key)
            if value is None:
                continue
            word = mapped(value, extra.get("mappings"))
            colour = word[1] if word else by_threshold(value, extra) if "thresholds" in extra else COLOURS["text"]
            shown = word[0] if word else value if isinstance(value, str) else show(value, extra.get("unit", panel["fieldConfig"]["defaults"]["unit"]), extra.get("decimals"))
            out.append(text(edges[i], at, cut(shown, edges[i + 1] - edges[i] - 6, 12), 12, colour))
    return "".join(out)


def merge(rows, labels):
    """Rows whose labels do not contradict each other become one."""
    merged = []
    for row in rows:
        same = next((one for one in merged if all(one.get(key) == row.get(key) for key in labels if key in one and key in row)), None)
        merged.append(dict(row)) if same is None else same.update(row)
    return merged


def bar_gauge(panel, results, area):
    x, y, w, h = area
    defaults = panel["fieldConfig"]["defaults"]
    lines = [(ask.legend(target, labels), value) for target, result in zip(panel["targets"], results) for labels, value in result]
    if not lines:
        return text(x + w / 2, y + h / 2, "No data", 14, WEAK, "middle")
    lines.sort(key=lambda line: line[0])
    high = min(h / len(lines), 36)
    left = x + min(max(len(name) for name, _ in lines) * 6.8 + 10, w * 0.45)
    most, out = defaults.get("max") or max(value for _, value in lines), []
    for row, (name, value) in enumerate(lines):
        top, colour = y + row * high, by_threshold(value, defaults)
        out.append(text(left - 6, top + high / 2 + 4, cut(name, left - x - 4), 11, anchor="end") + box(left, top + 4, x + w - left - 70, high - 8, LINE))
        out.append(box(left, top + 4, max(min(value / most, 1) * (x + w - left - 70), 2), high - 8, colour) + text(x + w, top + high / 2 + 4, show(value, defaults["unit"]), 12, colour, "end"))
    return "".join(out)


def draw_panel(board, panel, sources, g, width):
    column = (width - GAP) / 24
    x, y, w, h = GAP + g["x"] * column, TOP + g["y"] * (CELL + GAP), g["w"] * column - GAP, g["h"] * (CELL + GAP) - GAP
    if panel["type"] == "row":
        return text(x + 4, y + 22, "▾ " + panel["title"], 15, weight=600)
    # The first query is what the panel is about; one that has only the limits says little.
    asked = [(one, list(ask.answers(board, panel, one))) for one in sources]
    source, results = next((pair for pair in asked if pair[1][0]), next((pair for pair in asked if any(pair[1])), asked[0]))
    made_up = source.made_up and any(results)
    title = ask.fill_in(panel["title"], board, source) if "$band" in panel["title"] else panel["title"]
    head = box(x, y, w, h, PANEL, f'rx="3" stroke="{LINE}"') + text(x + 10, y + 19, cut(title, w - (70 if made_up else 20), 13), 13, weight=600)
    head += text(x + w - 8, y + 18, "made up", 10, WEAK, "end") if made_up else ""
    area = (x + 10, y + 34, w - 20, h - 44)
    kind = panel["type"]
    if kind in ("timeseries", "state-timeline"):
        return head + {"timeseries": line_chart, "state-timeline": timeline}[kind](panel, results, area, source.span(panel))
    return head + {"stat": stat, "table": table, "bargauge": bar_gauge}[kind](panel, results, area)


def stacked(panels):
    """As Grafana lays panels out on a phone: one below the other."""
    y = 0
    for panel in sorted(panels, key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"])):
        h = panel["gridPos"]["h"]
        yield panel, {"x": 0, "y": y, "w": 24, "h": h}
        y += h


def draw(name, sources, out):
    board = json.loads((ROOT / "dashboards" / f"{name}.json").read_text())
    places = [(panel, panel["gridPos"]) for panel in board["panels"]]
    height = TOP + max(g["y"] + g["h"] for _, g in places) * (CELL + GAP) + GAP
    picture(board, sources, places, WIDE, height, out / f"{name}.png")
    narrow = [(panel, g) for panel, g in stacked(board["panels"]) if TOP + g["y"] * (CELL + GAP) < PHONE_HEIGHT]
    picture(board, sources, narrow, PHONE, PHONE_HEIGHT, out / f"{name}-phone.png")


def picture(board, sources, places, width, height, file):
    words = "drawn by datapulse's own renderer, not by Grafana"
    body = text(GAP + 4, 30 if width < WIDE else 40, cut(board["title"], width - 20, 20), 18 if width < WIDE else 22, weight=600)
    body += text(GAP + 4, 50, words, 11, WEAK) if width < WIDE else text(width - GAP - 4, 40, words, 12, WEAK, "end")
    body += "".join(draw_panel(board, panel, sources, g, width) for panel, g in places)
    page = f'<body style="margin:0;background:{GROUND}"><svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="DejaVu Sans">{body}</svg>'
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "board.html"
        source.write_text(f"<!doctype html><meta charset=utf-8>{page}")
        subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}/profile", f"--window-size={width},{height}",
                        f"--screenshot={file}", source.as_uri()], check=True, capture_output=True, timeout=120)
    subprocess.run(["pngquant", "--force", "--strip", "--speed=1", "--nofs", "--output", file, "32", file], check=True)
    print(f"{file.name}: {file.stat().st_size // 1024} KiB, {height} pixels high")


if __name__ == "__main__":
    sources = []
    for one in json.loads(pathlib.Path(sys.argv[1]).read_text()):
        source = ask.Source(one["url"], one["start"], one["end"], one["interval"], one["made_up"])
        source.first_for = one.get("first_for", [])
        sources.append(source)
    out = pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[3:] or sorted(path.stem for path in (ROOT / "dashboards").glob("*.json")):
        draw(name, sorted(sources, key=lambda source: name not in source.first_for), out)
