"""Asks Prometheus for what a dashboard shows, with the variables filled in as Grafana would fill them in."""
import json
import re
import urllib.parse
import urllib.request


class Source:
    """A Prometheus, the span of time that is shown of it (seconds since 1970), and how often it scraped."""

    def __init__(self, url, start, end, interval, made_up):
        self.url, self.start, self.end, self.interval, self.made_up = url, start, end, interval, made_up

    def get(self, path, **arguments):
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(arguments)}") as reply:
            return json.load(reply)["data"]["result"]

    def range(self, expression, start, end, step):
        start, end = -(-start // step) * step, end // step * step
        result = self.get("query_range", query=expression, start=start, end=end, step=step)
        return [(one["metric"], [(at, number(value)) for at, value in one["values"]]) for one in result]

    def now(self, expression):
        return [(one["metric"], number(one["value"][1])) for one in self.get("query", query=expression, time=self.end)]

    def span(self, panel):
        """Start, end and step of a panel."""
        start = self.end - seconds(panel["timeFrom"]) if "timeFrom" in panel else self.start
        points = max(panel["gridPos"]["w"] * 25, 100)
        return start, self.end, max(self.interval, seconds(panel.get("interval", "0s")), int((self.end - start) / points))


def number(text):
    value = float(text)
    return value if value - value == 0 else None


def seconds(text):
    count, unit = re.fullmatch(r"(\d+)([smhd])", text).groups()
    return int(count) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


def answers(board, panel, source):
    """What each query of the panel gives: lists of (labels, values) or, where only now counts, of (labels, value)."""
    start, end, step = source.span(panel)
    rate = max(step + source.interval, 4 * source.interval)
    for target in panel["targets"]:
        text = target["expr"].replace("$__rate_interval", f"{int(rate)}s").replace("$__range", f"{int(end - start)}s")
        text = fill_in(text, board, source)
        yield source.now(text) if target.get("instant") else source.range(text, start, end, step)


def fill_in(text, board, source):
    """All of everything, but the country with the largest fall where only one can be chosen."""
    for variable in sorted(board["templating"]["list"], key=lambda one: -len(one["name"])):
        mark = f"${variable['name']}"
        if mark in text:
            text = text.replace(mark, ".*" if variable.get("multi") else lowest(source))
    return text


def lowest(source):
    low = source.now("topk(1, seasonal:low)")
    return low[0][0]["country"] if low else ".*"


def legend(target, labels):
    text = target["legendFormat"]
    if text == "__auto":
        return ", ".join(f"{key}={value}" for key, value in labels.items() if key != "__name__")
    words = re.sub(r"\s+", " ", re.sub(r"{{\s*(\w+)\s*}}", lambda found: labels.get(found[1], ""), text)).strip()
    # Where the demo ran is nobody's business.
    return re.sub(r"file:/\S*/", "file:/…/", words)
