"""Load for a long time: random requests, cancelled ones, clients that are killed. At the end everything is given back.

Usage: soak.py FATHOM MODEL [--minutes 30] [--clients 24] [--processes 2] [--seed 1] [-- flags of fathom serve]
Exit 1 if a request failed, greedy answers changed, a cache block stayed taken, or the memory kept growing. For that the load
comes twice: what the heap holds once the first quarter has been answered, it holds at the end. On a slow machine the first
quarter takes longer: until buffers are as large as this load makes them.
Standard library only. Clients are processes of this file; the parent kills and replaces one every few seconds.
"""
import argparse
import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

PROBE = {"prompt": "fathom", "temperature": 0, "max_tokens": 24}
SAMPLES = 240          # of the memory, over the whole run
GROWTH = 1.05          # last quarter against second quarter
SLACK_KB = 4096        # and that much besides: pieces of freed memory that the allocator keeps, pages that are written late
HEAP_SLACK = 256 << 10 # of what malloc() gave and did not get back: buffers that grow once
WARM = 2500            # requests answered after which they have grown, nearly
# Little more than one sequence of that length: blocks are taken from those that run. All of it is written within seconds.
CACHE = ["--kv-cache-memory-bytes", "3500000", "--max-model-len", "2048"]


# --- a client process ---

def random_request(rng):
    """Path, body, and whether it may be answered with 400: the others must be answered with 200."""
    body = {"max_tokens": rng.choice([1, 5, 20, 60, 200]), "stream": rng.random() < 0.5, "temperature": rng.choice([0, 0.7, 1])}
    if rng.random() < 0.3:
        body["ignore_eos"] = True
    for name, value, part in (("seed", rng.randrange(1 << 40), 0.3), ("top_p", rng.uniform(0.1, 1), 0.3), ("top_k", rng.choice([0, 1, 5, 40]), 0.3),
                              ("min_p", 0.05, 0.1), ("presence_penalty", 1.0, 0.1), ("repetition_penalty", 1.2, 0.1),
                              ("stop", ["and", "\n\n"], 0.2), ("logit_bias", {"5": 2}, 0.1), ("min_tokens", 1, 0.1),
                              ("bad_words", ["engine"], 0.1)):
        if rng.random() < part:
            body[name] = value
    if body["temperature"]:
        body["n"] = rng.choice([1, 1, 1, 2, 4])
    if body["stream"] and rng.random() < 0.3:
        body["stream_options"] = {"include_usage": True}
    shared = "fathom " * rng.choice([2, 30, 200])  # some prompts share their beginning: the prefix cache works too
    text = shared + " ".join(rng.choice(["model", "token", "cache", "17", "\u4e2d\u6587", "?"]) for _ in range(rng.randint(0, 80)))
    may_fail = rng.random() < 0.05
    if may_fail:
        body[rng.choice(["temperature", "top_p", "max_tokens", "stop"])] = rng.choice([-1, "x", 1e300, [], {}])
    if rng.random() < 0.5:
        if rng.random() < 0.3:
            body["logprobs"] = rng.randint(0, 20)
        return "/v1/completions", {**body, "prompt": text, "echo": rng.random() < 0.1}, may_fail
    if rng.random() < 0.3:
        body.update(logprobs=True, top_logprobs=rng.randint(0, 20))
    return "/v1/chat/completions", {**body, "messages": [{"role": "user", "content": text}]}, may_fail


async def one_request(rng, port, counts):
    path, body, may_fail = random_request(rng)
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
    leave_after = rng.choice([None] * 7 + [0, 300, 3000])  # bytes of the answer, then the client goes
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        whole = head.encode() + data
        if rng.random() < 0.03:  # goes in the middle of its request
            writer.write(whole[:rng.randrange(len(whole))])
            await writer.drain()
            counts["cut"] += 1
            return
        writer.write(whole)
        if leave_after is not None:
            await asyncio.sleep(rng.random() * 0.3)
            got = 0
            while got < leave_after and (part := await reader.read(leave_after - got)):
                got += len(part)
            counts["cancelled"] += 1
            if rng.random() < 0.5:
                writer.transport.abort()
            return
        answer = await reader.read()
    finally:
        writer.close()
    status = answer[9:12]
    if status == b"200" and (not body["stream"] or b"data: [DONE]" in answer[-40:]):
        counts["ok"] += 1
    elif status == b"400" and may_fail:
        counts["refused"] += 1
    else:
        counts["failed"] += 1
        print(f"failed: {json.dumps(body)[:300]}\n{answer[:300]!r}", file=sys.stderr, flush=True)


async def client(port, seed, lanes):
    rng = random.Random(seed)
    counts = dict.fromkeys(("ok", "refused", "cancelled", "cut", "failed"), 0)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    async def lane():
        while not stop.is_set():
            try:
                await asyncio.wait_for(one_request(rng, port, counts), 300)
            except (OSError, asyncio.TimeoutError) as e:
                if not stop.is_set():
                    counts["failed"] += 1
                    print(f"failed: {e!r}", file=sys.stderr, flush=True)
                    await asyncio.sleep(0.2)
            print(json.dumps(counts), flush=True)

    await asyncio.gather(*[lane() for _ in range(lanes)])


# --- the parent ---

class Server:
    def __init__(self, fathom, model, flags, folder):
        self.log = os.path.join(folder, "server.log")
        self.own_cache = not any(f.startswith("--kv-cache") for f in flags)
        if self.own_cache:
            flags = [*CACHE, *flags]
        with open(self.log, "wb") as log:
            # Freed pieces that a thread keeps at hand would count as in use.
            env = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
            self.process = subprocess.Popen([fathom, "serve", model, "--port", "0", "--no-pin", "--max-num-seqs", "16",
                                             "--disable-uvicorn-access-log", *flags], stderr=log, env=env)
        while "Application startup complete." not in self.text():
            if self.process.poll() is not None:
                raise SystemExit(self.text())
            time.sleep(0.05)
        self.port = int(re.search(r"://[^ ]*:(\d+)", self.text()).group(1))

    def text(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def ask(self, path, body=None):
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.read().decode()

    def probe(self):
        return json.loads(self.ask("/v1/completions", PROBE))["choices"][0]["text"]

    def metric(self, name):
        return sum(float(v) for v in re.findall("^" + name + r"(?:\{.*\})? (.*)$", self.ask("/metrics"), re.M))

    def resident_kb(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))

    def heap(self):
        """Bytes in use while nothing else happens."""
        self.wait_idle()
        time.sleep(1)
        return int(self.metric("fathom:heap_bytes"))

    def wait_idle(self):
        """The names of what is not 0 after a minute."""
        names = ["vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"]
        end = time.monotonic() + 60
        while time.monotonic() < end and any(self.metric(name) for name in names):
            time.sleep(0.2)
        return [name for name in names if self.metric(name)]

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


class Clients:
    """Processes that ask; `totals` adds up what each last said of itself."""

    def __init__(self, port, options, folder):
        self.port, self.options, self.folder = port, options, folder
        self.running, self.files, self.killed = [], [], 0

    def begin(self):
        for _ in range(self.options.processes):
            self.start()

    def start(self):
        path = os.path.join(self.folder, f"client{len(self.files)}")
        self.files.append(path)
        lanes = max(1, self.options.clients // self.options.processes)
        with open(path, "wb") as out:
            self.running.append(subprocess.Popen([sys.executable, os.path.abspath(__file__), "--client", str(self.port),
                                                  str(self.options.seed * 100003 + len(self.files)), str(lanes)], stdout=out))

    def kill_one(self, rng):
        victim = self.running.pop(rng.randrange(len(self.running)))
        victim.kill()
        victim.wait()
        self.killed += 1
        self.start()

    def end(self):
        for p in self.running:
            p.terminate()
        for p in self.running:
            try:
                p.wait(320)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        self.running = []

    def totals(self):
        sums = {}
        for path in self.files:
            with open(path, encoding="ascii") as file:
                lines = [line for line in file.read().splitlines() if line.endswith("}")]
            for name, n in (json.loads(lines[-1]) if lines else {}).items():
                sums[name] = sums.get(name, 0) + n
        return sums


def mean(values):
    return sum(values) / len(values)


def load(server, clients, seconds, answers, want, complaints):
    """The load itself, for so long and until so many requests were answered; returns samples of the memory in KiB."""
    rng = random.Random(clients.options.seed)
    clients.begin()
    began, samples, next_kill = time.monotonic(), [], 5.0
    while server.process.poll() is None and (
            (at := time.monotonic() - began) < seconds or (at < 4 * seconds and clients.totals().get("ok", 0) < answers)):
        time.sleep(max(0.1, clients.options.minutes * 60 / SAMPLES))
        samples.append(server.resident_kb())
        if at > next_kill:
            clients.kill_one(rng)
            next_kill = at + rng.uniform(2, 12)
            if server.probe() != want:
                complaints.append(f"a greedy answer changed after {at:.0f} s")
    clients.end()
    return samples


def both_loads(server, options, folder, want, complaints):
    """A quarter of the time, then the rest; between them and at the end the heap in use is looked at."""
    clients = Clients(server.port, options, folder)
    samples, heaps = [], [server.heap()]
    for part, answers in ((0.25, WARM if options.minutes >= 10 else 0), (0.75, 0)):
        samples += load(server, clients, options.minutes * 60 * part, answers, want, complaints)
        if server.process.poll() is not None:
            return samples
        heaps.append(server.heap())
    totals = clients.totals()
    print(f"requests: {totals}; client processes killed: {clients.killed}")
    if totals.get("failed", 0) or not totals.get("ok"):
        complaints.append(f"{totals.get('failed', 0)} requests failed, {totals.get('ok', 0)} were answered")
    print(f"heap in use at rest: {heaps[0] >> 10} KiB at first, {heaps[1] >> 10} after a quarter, {heaps[2] >> 10} at the end")
    if heaps[2] > heaps[1] + HEAP_SLACK:
        complaints.append("the heap grows")
    return samples


def check_rest(server, want, descriptors, complaints):
    """What is left once all clients are gone."""
    for name in server.wait_idle():
        complaints.append(f"{name} stays {server.metric(name)}")
    if server.probe() != want:
        complaints.append("the greedy answer is another one at the end")
    time.sleep(1)
    if server.descriptors() > descriptors + 4:
        complaints.append(f"{server.descriptors()} descriptors are open, {descriptors} were at the start")
    preemptions = server.metric("vllm:num_preemptions_total")
    print(f"preemptions: {preemptions:.0f}; prompt tokens: {server.metric('vllm:prompt_tokens_total'):.0f}; "
          f"generated: {server.metric('vllm:generation_tokens_total'):.0f}")
    if not preemptions and server.own_cache:
        complaints.append("no request was preempted: the cache is too large for this load")


def check_memory(samples, complaints):
    n = len(samples)
    if n < 8:
        complaints.append(f"only {n} samples of the memory")
        return
    early, late = mean(samples[n // 4:n // 2]), mean(samples[-(n // 4):])
    print(f"resident: {samples[0] >> 10} MiB at first, {early / 1024:.1f} MiB in the second quarter, {late / 1024:.1f} MiB in the "
          f"last, {max(samples) >> 10} MiB at most")
    if late > early * GROWTH + SLACK_KB:
        complaints.append("the memory grows")


def main():
    if sys.argv[1:2] == ["--client"]:
        asyncio.run(client(*map(int, sys.argv[2:5])))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fathom")
    parser.add_argument("model")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=24, help="requests at a time, over all processes")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    own, flags = sys.argv[1:], []
    if "--" in own:
        own, flags = own[:own.index("--")], own[own.index("--") + 1:]
    options = parser.parse_args(own)
    complaints = []
    with tempfile.TemporaryDirectory() as folder:
        server = Server(options.fathom, options.model, flags, folder)
        try:
            want, descriptors = server.probe(), server.descriptors()
            samples = both_loads(server, options, folder, want, complaints)
            if server.process.poll() is None:
                check_rest(server, want, descriptors, complaints)
            check_memory(samples, complaints)
        finally:
            if server.process.poll() is None:
                server.process.terminate()
            code = server.process.wait(60)
        if code:
            complaints.append(f"the server ended with {code}\n{server.text()[-4000:]}")
    print("soak: " + ("; ".join(complaints) if complaints else "all well"))
    return int(bool(complaints))


if __name__ == "__main__":
    sys.exit(main())
