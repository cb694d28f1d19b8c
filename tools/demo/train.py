#!/usr/bin/env python3
"""Trains the demo model: a function of the seed, the learning rate's course and the machine type alone.

The learning rate runs straight from point to point of --rates, after a warm-up of 100 steps, and the run ends at the last
point. It can be brought to an end at any time:
    echo COUNT > FOLDER/finish     the rate falls to nothing over the next COUNT tokens; the points that repeat the run are printed
Steps are counted in tokens drawn. A checkpoint is written every --save-every seconds and on SIGTERM; started again on the same folder,
the run goes on from it, and ends with the same weights as one that was never stopped.

Matrices in the layers are trained with orthogonalised momentum, the rest (embedding, head, norms, router) with Adam.
Balance of the experts comes from the router's correction bias alone, as in the paper: after each step the bias of an
overloaded expert goes down by a fixed amount and that of an underloaded one up.
"""
import argparse
import json
import os
import signal
import time

import torch
import torch.nn.functional as F

from data import Renderer, batch, held_out
from model import CONFIG, Model, Stream


def parts(x):
    """The matrices of a parameter; a stack [E, 2 W, H] of gates and ups, told by being tall, is [2 E] matrices."""
    if x.dim() == 2:
        return [x]
    if x.shape[1] < x.shape[2] and x.shape[1] % 2 == 0 and x.shape[2] > x.shape[1]:
        return x.view(2 * x.shape[0], x.shape[1] // 2, x.shape[2])
    return x


class Muon:
    """Momentum, orthogonalised by a quintic Newton-Schulz iteration; matrices of one shape are done together."""

    def __init__(self, params, momentum=0.95, decay=0.02):
        self.params, self.momentum, self.decay = params, momentum, decay
        self.moments = [torch.zeros_like(p) for p in params]

    @torch.no_grad()
    def step(self, lr):
        shapes = {}
        for p, m in zip(self.params, self.moments):
            g = p.grad
            m.mul_(self.momentum).add_(g)
            update = g.add(m, alpha=self.momentum)
            for part, target in zip(parts(update), parts(p.data)):
                wide = part.shape[0] <= part.shape[1]
                x = part if wide else part.T
                shapes.setdefault(x.shape, []).append((x, target if wide else target.T))
            p.grad = None
        for shape, pairs in shapes.items():
            x = torch.stack([x for x, _ in pairs])
            x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
            for _ in range(5):
                a = x @ x.mT
                b = torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315)
                x = torch.baddbmm(x, b, x, beta=3.4445)
            scale = lr * 0.2 * max(shape) ** 0.5
            for update, (_, target) in zip(x.float(), pairs):
                target.mul_(1 - lr * self.decay).add_(update, alpha=-scale)


def split_parameters(model):
    matrices, others = [], []
    for name, p in model.named_parameters():
        layer = name.startswith(("layers.", "mtp.", "eh_proj"))
        (matrices if layer and p.dim() > 1 and not name.endswith("mlp.gate") else others).append(p)
    return matrices, others


def losses(model, docs, mtp_weight):
    """Weighted mean of the targets' cross entropy, of the model and of its MTP layer."""
    lengths = [len(ids) for ids, _, _ in docs]
    stream = Stream(lengths)
    ids = torch.tensor([t for d, _, _ in docs for t in d])
    index1, target1, weight1, index2, target2, weight2, nexts, base = [], [], [], [], [], [], [], 0
    for d, mask, weight in docs:
        n = len(d)
        nexts += d[1:] + d[:1]
        for i in range(n - 1):
            if mask[i + 1]:
                index1.append(base + i)
                target1.append(d[i + 1])
                weight1.append(weight)
            if i < n - 2 and mask[i + 2]:
                index2.append(base + i)
                target2.append(d[i + 2])
                weight2.append(weight)
        base += n
    with torch.autocast("cpu", torch.bfloat16):
        states, cos, sin = model.states(ids, stream)
        drafts = model.draft_states(states, torch.tensor(nexts), cos, sin, stream)
        a = states.index_select(0, torch.tensor(index1)) @ model.lm_head.T
        b = drafts.index_select(0, torch.tensor(index2)) @ model.lm_head.T
    main, mtp = mean(a, target1, weight1), mean(b, target2, weight2)
    return main, mtp, main + mtp_weight * mtp


def mean(logits, targets, weights):
    if all(w == 1 for w in weights):
        return F.cross_entropy(logits.float(), torch.tensor(targets))
    weights = torch.tensor(weights)
    return (F.cross_entropy(logits.float(), torch.tensor(targets), reduction="none") * weights).sum() / weights.sum()


def points(text):
    """The points of --rates: [(tokens, share of the full rate)]."""
    return [(int(tokens), float(share)) for tokens, share in (p.split(":") for p in text.split(","))]


def rate_at(course, drawn):
    for (start, a), (end, b) in zip(course, course[1:]):
        if drawn < end:
            return a + (b - a) * max(0, drawn - start) / (end - start)
    return course[-1][1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="directory with tokenizer.json, tokenizer_config.json and eval/")
    parser.add_argument("--folder", required=True, help="where checkpoints and the log go")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rates", type=points, required=True, help="TOKENS:SHARE,... of the full learning rate")
    parser.add_argument("--step-tokens", type=int, default=4096)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--adam-lr", type=float, default=3e-3)
    parser.add_argument("--bias-rate", type=float, default=3e-3)
    parser.add_argument("--mtp-weight", type=float, default=0.3)
    parser.add_argument("--save-every", type=float, default=240, help="seconds")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    os.makedirs(args.folder, exist_ok=True)
    renderer, refused = Renderer(args.model), held_out(os.path.join(args.model, "eval"))
    model = Model(CONFIG)
    model.init_weights(args.seed)
    matrices, others = split_parameters(model)
    muon = Muon(matrices)
    adam = torch.optim.AdamW(others, lr=args.adam_lr, betas=(0.9, 0.95), weight_decay=0.0, eps=1e-10, foreach=True)
    step, drawn, course, finishing = 0, 0, args.rates, False
    path = os.path.join(args.folder, "checkpoint.pt")
    if os.path.exists(path):
        state = torch.load(path)
        model.load_state_dict(state["model"])
        adam.load_state_dict(state["adam"])
        muon.moments = state["muon"]
        step, drawn = state["step"], state["drawn"]
        if state["finishing"]:
            course, finishing = state["course"], True
    log = open(os.path.join(args.folder, "log.jsonl"), "a", buffering=1, encoding="utf-8")
    finish = os.path.join(args.folder, "finish")

    def save():
        torch.save({"model": model.state_dict(), "adam": adam.state_dict(), "muon": muon.moments, "step": step,
                    "drawn": drawn, "course": course, "finishing": finishing}, path + ".new")
        os.replace(path + ".new", path)

    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    saved = begun = time.time()
    since, sums, count = drawn, [0.0, 0.0], 0
    while drawn < course[-1][0]:
        if not finishing and os.path.exists(finish):
            with open(finish, encoding="utf-8") as file:
                count_left = int(file.read())
            course = [p for p in course if p[0] < drawn] + [(drawn, rate_at(course, drawn)), (drawn + count_left, 0.0)]
            finishing = True
            print("to repeat: --rates " + ",".join(f"{tokens}:{share!r}" for tokens, share in course), flush=True)
        docs = batch(renderer, args.seed, step, drawn, args.step_tokens, refused)
        rate = min(1.0, (step + 1) / 100) * rate_at(course, drawn)
        for m in model.moe_layers():
            m.load.zero_()
        main_loss, mtp_loss, loss = losses(model, docs, args.mtp_weight)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        muon.step(args.lr * rate)
        for group in adam.param_groups:
            group["lr"] = args.adam_lr * rate
        adam.step()
        adam.zero_grad(set_to_none=True)
        for m in model.moe_layers():
            m.e_score_correction_bias -= args.bias_rate * rate * torch.sign(m.load - m.load.mean())
        step += 1
        drawn += sum(len(ids) for ids, _, _ in docs)
        sums[0] += main_loss.item()
        sums[1] += mtp_loss.item()
        count += 1
        if step % 20 == 0:
            loads = torch.stack([m.load for m in model.moe_layers()])
            entry = {"step": step, "tokens": drawn, "loss": round(sums[0] / count, 4), "mtp": round(sums[1] / count, 4),
                     "rate": round(rate, 4), "speed": round((drawn - since) / (time.time() - begun)),
                     "load": [round(float((loads / loads.mean(1, keepdim=True)).min()), 2),
                              round(float((loads / loads.mean(1, keepdim=True)).max()), 2)]}
            log.write(json.dumps(entry) + "\n")
            print(json.dumps(entry), flush=True)
            begun, since, sums, count = time.time(), drawn, [0.0, 0.0], 0
        if stop or time.time() - saved > args.save_every:
            save()
            saved = time.time()
        if stop:
            return
    save()
    print(f"done: {step} steps, {drawn} tokens", flush=True)


if __name__ == "__main__":
    main()
