#!/usr/bin/env python3
"""Scores a model directory, or a running program, on the held-out set (models/demo/eval).

    score.py models/demo                             with the PyTorch model, greedy
    score.py models/demo --program build/fathom      the same questions through the program's command line
    score.py models/demo --server http://127.0.0.1:8000   through a running `fathom serve`, many at a time
    score.py models/demo --answers FILE              its answers, for `fathom bench drafts`
    score.py models/demo --mtp                       how often the MTP layer's draft is the model's own next choice
    score.py models/demo --load                      tokens per expert over the held-out set
"""
import argparse
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import urllib.request

CALL = re.compile(r"<｜tool▁call▁begin｜>(.*?)<｜tool▁sep｜>(.*?)<｜tool▁call▁end｜>", re.S)


def read(folder, only):
    out = {}
    for name in sorted(os.listdir(folder)):
        skill = name.removesuffix(".jsonl")
        if name.endswith(".jsonl") and (not only or skill in only):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                out[skill] = [json.loads(line) for line in file]
    return out


def last_number(text):
    found = re.findall(r"-?\d+", text)
    return int(found[-1]) if found else None


def right(item, text):
    """Whether the raw text after the prompt (reasoning, answer, tool calls) is a right answer."""
    check = item["check"]
    answer = text.split("</think>", 1)[-1] if item["thinking"] else text
    if item["thinking"] and "</think>" not in text:
        return False
    if check["type"] == "calls":
        found = CALL.findall(answer)
        try:
            return [[n, json.loads(a)] for n, a in found] == check["calls"]
        except ValueError:
            return False
    if "<｜tool▁call" in answer:
        return False
    answer = answer.strip()
    if check["type"] == "number":
        return last_number(re.sub(r"^.*=", "", answer)) == check["value"]
    if check["type"] == "contains":
        return all(w in answer for w in check["words"])
    if check["type"] == "letter":
        return re.match(r"([A-D])\b", answer) is not None and answer[0] == check["letter"]
    return answer == check["text"]


class Torch:
    def __init__(self, directory, threads):
        import torch
        from checkpoint import load
        from data import Renderer
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.model, self.renderer = load(directory), Renderer(directory)

    def prompt(self, item):
        return self.renderer.encode(self.renderer.text(item["messages"], item["tools"], item["thinking"]))

    def answers(self, items, limit, rows=20):
        from model import generate
        order = sorted(range(len(items)), key=lambda i: len(self.prompt(items[i])))
        out = [None] * len(items)
        for begin in range(0, len(order), rows):
            part = order[begin:begin + rows]
            made = generate(self.model, [self.prompt(items[i]) for i in part], limit, vocab=self.renderer.size)
            for i, ids in zip(part, made):
                out[i] = self.renderer.decode(ids)
        return out


class Program:
    """One process per question: PROGRAM complete DIRECTORY --json, the rendered prompt on standard input. The ids are
    taken, because the printed text leaves control tokens out."""

    def __init__(self, directory, program, extra):
        from data import Renderer
        self.directory, self.program, self.extra, self.renderer = directory, program, extra, Renderer(directory)

    def answers(self, items, limit):
        out = []
        for item in items:
            text = self.renderer.text(item["messages"], item["tools"], item["thinking"])
            command = [self.program, "complete", self.directory, "--max-tokens", str(limit), "--temperature", "0",
                       "--no-add-bos", "--json", *self.extra]
            done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
            out.append(self.renderer.decode(json.loads(done.stdout)["ids"]))
        return out


class Server:
    """POST /v1/completions with the ids of the rendered prompt; control tokens stay in the answer."""

    def __init__(self, directory, url):
        from data import Renderer
        self.url, self.renderer = url.rstrip("/") + "/v1/completions", Renderer(directory)

    def answer(self, item, limit):
        text = self.renderer.text(item["messages"], item["tools"], item["thinking"])
        body = {"prompt": self.renderer.encode(text), "max_tokens": limit, "temperature": 0, "skip_special_tokens": False}
        request = urllib.request.Request(self.url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as response:
            return json.load(response)["choices"][0]["text"]

    def answers(self, items, limit):
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            return list(pool.map(lambda item: self.answer(item, limit), items))


def mtp_agreement(backend, sets):
    """At each position of the held-out answers: is the draft for token i + 2, made from the state of token i and the true
    token i + 1, what the model itself chooses after token i + 1?"""
    import torch
    from model import Stream
    hits = total = 0
    for items in sets.values():
        for item in items:
            prompt = backend.prompt(item)
            if item["thinking"]:
                continue
            last = item["expected"]
            if isinstance(last, str):
                last = {"role": "assistant", "content": last}
            else:
                last = {"role": "assistant", "content": None, "tool_calls": [
                    {"type": "function", "function": {"name": n, "arguments": a}} for n, a in last]}
            ids = backend.renderer.encode(backend.renderer.text(item["messages"] + [last], item["tools"], prompt=False))
            with torch.no_grad():
                stream = Stream([len(ids)])
                x = torch.tensor(ids)
                states, cos, sin = backend.model.states(x, stream)
                drafts = backend.model.draft_states(states, x.roll(-1), cos, sin, stream)
                size = backend.renderer.size
                own = (states @ backend.model.lm_head.T)[:, :size].argmax(-1)
                draft = (drafts @ backend.model.lm_head.T)[:, :size].argmax(-1)
            first = len(prompt) - 1
            same = draft[first:-2] == own[first + 1:-1]
            hits += int(same.sum())
            total += len(same)
    return hits, total


def expert_load(backend, sets):
    import torch
    from model import Stream
    for m in backend.model.moe_layers():
        m.load.zero_()
    for items in sets.values():
        for item in items:
            ids = backend.prompt(item)
            with torch.no_grad():
                stream, x = Stream([len(ids)]), torch.tensor(ids)
                states, cos, sin = backend.model.states(x, stream)
                backend.model.draft_states(states, x.roll(-1), cos, sin, stream)
    first = backend.model.cfg["first_k_dense_replace"]
    print("share of the tokens' choices per expert, in percent (even would be "
          f"{100 / backend.model.cfg['n_routed_experts']:.2f})")
    for i, m in enumerate(backend.model.moe_layers()):
        share = 100 * m.load / m.load.sum()
        print(f"layer {first + i}: " + " ".join(f"{s:5.2f}" for s in share.tolist()))


def answer_line(renderer, item, answer):
    prompt = renderer.encode(renderer.text(item["messages"], item["tools"], item["thinking"]))
    ids = prompt + renderer.encode(answer) + [renderer.eos]
    return json.dumps({"ids": ids, "answer_at": len(prompt)}, separators=(",", ":")) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("--program", help="score this program instead of the PyTorch model")
    parser.add_argument("--server", metavar="URL", help="score a running server instead")
    parser.add_argument("--option", action="append", default=[], help="passed on to the program")
    parser.add_argument("--eval", help="folder of the held-out set (default: eval in the directory)")
    parser.add_argument("--only", nargs="*", help="skills")
    parser.add_argument("--limit", type=int, help="at most so many questions per skill")
    parser.add_argument("--max-tokens", type=int, default=320)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--show", type=int, default=0, help="print so many wrong answers per skill")
    parser.add_argument("--answers", help="write the answers to this file, as `bench drafts` reads them")
    parser.add_argument("--mtp", action="store_true")
    parser.add_argument("--load", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    sets = read(args.eval or os.path.join(args.directory, "eval"), args.only)
    if args.limit:
        sets = {k: v[:args.limit] for k, v in sets.items()}
    if args.program:
        backend = Program(args.directory, args.program, args.option)
    elif args.server:
        backend = Server(args.directory, args.server)
    else:
        backend = Torch(args.directory, args.threads)
    if args.mtp:
        hits, total = mtp_agreement(backend, sets)
        print(f"draft equals the model's next choice: {hits} of {total} ({100 * hits / total:.1f} %)")
        return
    if args.load:
        expert_load(backend, sets)
        return
    result, lines = {}, []
    for skill, items in sets.items():
        answers = backend.answers(items, args.max_tokens)
        good = [right(item, a) for item, a in zip(items, answers)]
        lines += [answer_line(backend.renderer, item, a) for item, a in zip(items, answers)]
        result[skill] = {"right": sum(good), "of": len(items)}
        if not args.json:
            print(f"{skill:18s} {sum(good):4d} of {len(items):4d}  {100 * sum(good) / len(items):5.1f} %", flush=True)
        total = result.setdefault("all", {"right": 0, "of": 0})
        total["right"] += sum(good)
        total["of"] += len(items)
        shown = [(i, a) for i, a, g in zip(items, answers, good) if not g][:args.show]
        for item, a in shown:
            print(f"    {item['messages'][-1]['content']!r}\n    expected {item['expected']!r}\n    got      {a!r}")
    if not args.json and "all" in result:
        print(f"{'all':18s} {result['all']['right']:4d} of {result['all']['of']:4d}  "
              f"{100 * result['all']['right'] / result['all']['of']:5.2f} %")
    if args.answers:
        with open(args.answers, "w", encoding="utf-8") as file:
            file.writelines(lines)
    if args.json:
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
