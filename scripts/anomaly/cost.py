"""Measures on a real Prometheus what the seasonal rules cost: seconds of an evaluation, memory, series.

    python cost.py [countries ..]        (default: 50 1000)

History comes as blocks: a week of what the rules look back on for a week, and some time around each of the last four weeks for the rest. Rules run
every 20 s instead of every 5 minutes, so that one sees ten evaluations in four minutes; one evaluation costs the same. The memory is compared with the same
server without the rules.
"""
import http.server
import json
import math
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

RULES = pathlib.Path(__file__).resolve().parent.parent.parent / "alerts"
HOUR = 3600


def value(country, at):
    return (100 + country) * (2 + math.cos(at / 86400 * 2 * math.pi)) // 1


def history(countries, now):
    """OpenMetrics text of raw and recorded series at five minutes."""
    labels = lambda c: f'job="datapulse",instance="dp",check="devices",country="C{c}",gauge="device_connections"'
    near = [at for w in (4, 3, 2, 1) for at in range(now - w * 168 * HOUR - HOUR, now - w * 168 * HOUR + HOUR, 300)]
    days = lambda n: range(now - int(n * 24) * HOUR, now, 300)
    series = {"value": ([*near, *days(2)], value), "ratio": (days(2), lambda c, at: math.sin(c + at / 5000) / 9), "apart": (days(7), lambda c, at: abs(math.sin(c + at / 5000)) * 3),
              "expected": (days(0.25), value), "noise": (days(0.25), lambda c, at: 2), "guard": (days(0.25), lambda c, at: 0.2)}
    for name, (times, of) in series.items():
        yield f"# TYPE seasonal:{name} gauge\n"
        for c in range(countries):
            for at in times:
                yield f"seasonal:{name}{{{labels(c)}}} {of(c, at):.6g} {at}\n"
    yield "# EOF\n"


def exporter(countries):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            now = time.time()
            text = "".join(f'device_connections{{check="devices",country="C{c}"}} {value(c, now)}\ndevice_holiday{{check="days",country="C{c}"}} 0\n' for c in range(countries))
            self.wfile.write((text + 'datapulse_check_up{check="devices"} 1\n').encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def measure(folder, countries, rules, port, seconds):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        mine = free.getsockname()[1]
    config = folder / "prometheus.yml"
    config.write_text(
        f"global: {{scrape_interval: 15s, evaluation_interval: 15s}}\nrule_files: [{rules}]\n"
        f"scrape_configs:\n  - {{job_name: datapulse, static_configs: [{{targets: ['127.0.0.1:{port}'], labels: {{instance: dp}}}}]}}\n"
        f"  - {{job_name: prometheus, static_configs: [{{targets: ['127.0.0.1:{mine}']}}]}}\n"
    )
    server = subprocess.Popen(["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{mine}",
                               "--storage.tsdb.retention.time=40d", "--log.level=error"])
    try:
        time.sleep(seconds)
        query = lambda q: [float(r["value"][1]) for r in json.load(urllib.request.urlopen(f"http://127.0.0.1:{mine}/api/v1/query?query=" + urllib.parse.quote(q)))["data"]["result"]]
        one = lambda q: (query(q) or [math.nan])[0]
        group = '{rule_group=~".*;datapulse-seasonal"}'
        return dict(
            last=one(f"prometheus_rule_group_last_duration_seconds{group}"),
            worst=one(f"max_over_time(prometheus_rule_group_last_duration_seconds{group}[10m])"),
            memory=one('avg_over_time(process_resident_memory_bytes{job="prometheus"}[2m])'),
            # Seconds of processor, which a busy machine does not stretch, and how often the rules ran, both a second.
            cpu=one('rate(process_cpu_seconds_total{job="prometheus"}[2m])'), runs=one(f"rate(prometheus_rule_group_iterations_total{group}[2m])"), recorded=one('count({__name__=~"seasonal:.*"})'),
        )
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    for countries in [int(a) for a in sys.argv[1:]] or [50, 1000]:
        port = exporter(countries)
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            rules = folder / "rules.yml"
            rules.write_text(re.sub("interval: 5m", "interval: 20s", (RULES / "anomaly.yml").read_text()))
            text = folder / "history.txt"
            with text.open("w") as out:
                out.writelines(history(countries, int(time.time()) // 300 * 300))
            subprocess.run(["promtool", "tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=162h", str(text), f"{folder}/data"], check=True, stdout=subprocess.DEVNULL)
            text.unlink()
            without = measure(folder, countries, folder / "none.yml", port, 150)
            with_rules = measure(folder, countries, rules, port, 240)
        print(f"{countries} series: evaluation {with_rules['last']:.3f} s by the clock (slowest {with_rules['worst']:.3f} s), {(with_rules['cpu'] - without['cpu']) / with_rules['runs']:.3f} s of processor; "
              f"{with_rules['recorded']:.0f} recorded series, {with_rules['recorded'] / 300:.1f} samples a second at 5 minutes; "
              f"memory {with_rules['memory'] / 2**20:.0f} MiB, without the rules {without['memory'] / 2**20:.0f} MiB", flush=True)
