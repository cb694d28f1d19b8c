"""What the server itself costs, without a model: events per second of its one thread, streams held at once, and the
time from the engine's publication of a token until it has left, each beside a bare writer of as many bytes in the same
run. `meson test --benchmark --verbose serve`, or

    serve_bench.py FATHOM_SCRIPTED FATHOM SOURCE STREAM_LOAD [--seconds S] [--streams N] [--held N] [--period MS]

On a busy machine rates and latencies are those of what the machine had left; CPU time per event, and ratios, hold.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

SOURCE = os.path.abspath(sys.argv[3])
sys.path.insert(0, os.path.join(SOURCE, "tests", "server"))
import serving  # noqa: E402  (it reads the same first arguments)

REQUEST = '{"messages":[{"role":"user","content":"hi"}],"stream":true,"temperature":0,"ignore_eos":true,"max_tokens":%d'
TRACED = 4000  # tokens of each stream
HELD = 500  # the same, where memory is measured


class Bench:
    def __init__(self, args):
        self.args = args
        self.letter = serving.ids_of("a")
        assert len(self.letter) == 1

    def load(self, port, pid, streams, tokens, mode, request="", trace=()):
        line = [self.args.stream_load, port, pid, streams, tokens, self.args.seconds, mode, request, *trace]
        return json.loads(subprocess.run([str(a) for a in line], check=True, stdout=subprocess.PIPE).stdout)

    def server(self, streams, max_tokens, trace="", **rule):
        """One run against the scripted engine."""
        script = {"max_model_len": max_tokens + 1000}
        if trace:
            script["trace"] = {"path": trace, "rows": streams, "tokens": TRACED}
        quiet = ["--disable-uvicorn-access-log", "--max-num-seqs", "256"]
        with serving.scripted({"answer": self.letter, **rule}, args=quiet, **script) as s:
            return self.load(s.port, s.process.pid, streams, TRACED, "fast", REQUEST % max_tokens,
                             [trace] if trace else [])

    def limit(self, streams, bytes_per_event, mode):
        return self.load(0, 0, streams, round(bytes_per_event), mode)


def rate(bench, streams):
    ours = bench.server(streams, 1000000, eager=True)
    bare = bench.limit(streams, ours["bytes"] / ours["events"], "fast")
    print(f"\nstreams as fast as they go: {streams} streams, {ours['bytes'] / ours['events']:.0f} bytes an event, "
          f"{ours['tokens'] / ours['events']:.3f} tokens an event")
    print("                 events/s   CPU us/event   outside the kernel   events/s of a whole core   share of a core")
    for name, r in (("server", ours), ("bare writer", bare)):
        cpu = r["cpu_s"] / r["events"]
        print(f"  {name:12} {r['events'] / r['seconds']:10.0f} {cpu * 1e6:14.2f} {r['user_s'] / r['events'] * 1e6:20.2f} "
              f"{1 / cpu:26.0f} "
              f"{r['cpu_s'] / r['seconds']:17.2f}")
    print(f"  the writer's CPU time is {100 * (bare['cpu_s'] / bare['events']) / (ours['cpu_s'] / ours['events']):.0f} % "
          f"of the server's")


def held(bench, streams):
    ours = bench.server(streams, HELD, delay_ms=1000)
    print(f"\nstreams held at once: {ours['live']} of {ours['streams']} alive, one token a second each")
    print(f"  {ours['kib'] * 1024 / streams:.0f} bytes of the process's memory for each (4 of them for each of {HELD} "
          f"tokens; buffers of the kernel not counted)")
    print(f"  {ours['cpu_s'] / ours['seconds']:.2f} of a core, {ours['cpu_s'] / ours['events'] * 1e6:.2f} us an event")


def latency(bench, streams, period_ms):
    with tempfile.TemporaryDirectory() as folder:
        trace = os.path.join(folder, "trace")
        ours = bench.server(streams, TRACED, trace, delay_ms=period_ms, together=True)
    bare = bench.limit(streams, ours["bytes"] / ours["events"], period_ms)
    print(f"\nlatency from publication to departure: {streams} streams, each a token in steps of {period_ms} ms, all at "
          f"once: {streams * 1000 / period_ms:.0f} tokens/s")
    print("                  p50 us     p99 us    tokens/s")
    for name, r in (("server", ours), ("bare writer", bare)):
        print(f"  {name:12} {r['p50_us']:10.0f} {r['p99_us']:10.0f} {r['tokens'] / r['seconds']:11.0f}")
    print(f"  the server adds {ours['p50_us'] - bare['p50_us']:.0f} us at p50, {ours['p99_us'] - bare['p99_us']:.0f} us "
          f"at p99")


def main():
    parser = argparse.ArgumentParser()
    for name in ("scripted", "fathom", "source", "stream_load"):
        parser.add_argument(name)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--streams", type=int, default=256)
    parser.add_argument("--held", type=int, default=10000)
    parser.add_argument("--period", type=int, default=25)
    parser.add_argument("--only", choices=["rate", "held", "latency"])
    args = parser.parse_args()
    bench = Bench(args)
    print(f"server thread without a model; load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    if args.only in (None, "rate"):
        rate(bench, args.streams)
    if args.only in (None, "held"):
        held(bench, args.held)
    if args.only in (None, "latency"):
        latency(bench, args.streams, args.period)


main()
