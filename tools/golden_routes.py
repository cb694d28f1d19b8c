#!/usr/bin/env python3
"""Writes routes.safetensors beside a checkpoint's golden.safetensors: the experts behind its logits.

usage: golden_routes.py MODEL_DIR

A token whose routing is nearly tied takes another expert under any rounding, and drags the tokens after it. Whoever
compares logits with golden ones computes with the experts named here, and sees rounding and mistakes only.

The file holds prompt.N.experts I32 [MoE layers, T, k] and, where golden.safetensors has prompt.N.mtp_logits,
prompt.N.mtp_experts I32 [T - 1, k]. Ids ascend in a row. They come from an implementation of its own in float64,
whose logits must agree with the golden ones before anything is written. BF16, F32 and FP8 checkpoints, and
msmodelslim's W8A8 and W4A8, with the exact sums of integers; needs numpy.
"""
import glob
import json
import math
import os
import struct
import sys

import numpy as np

WORST_ROW = 1e-5  # largest rms difference of a row's logits, which golden.safetensors rounds to float32
LATENT_EPS = 1e-6  # of q_a_layernorm and kv_a_layernorm, whatever rms_norm_eps says


def e4m3_table():
    """The 256 values of E4M3FN: bias 7, no infinities."""
    out = np.empty(256)
    for code in range(256):
        exponent, mantissa = code >> 3 & 15, code & 7
        value = mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0**(exponent - 10)
        if code & 127 == 127:
            value = math.nan
        out[code] = -value if code & 128 else value
    return out


E4M3 = e4m3_table()


def decode(data, dtype):
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").astype(np.float64)
    if dtype == "F8_E4M3":
        return E4M3[np.frombuffer(data, np.uint8)]
    if dtype == "F32":
        return np.frombuffer(data, "<f4").astype(np.float64)
    return np.frombuffer(data, {"F16": "<f2", "I8": "i1", "I32": "<i4", "I64": "<i8"}[dtype])


def read_file(path):
    """All tensors of a safetensors file, decoded: {name: array}."""
    with open(path, "rb") as file:
        size, = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = file.read()
    out = {}
    for name, t in header.items():
        if name != "__metadata__":
            begin, end = t["data_offsets"]
            out[name] = decode(data[begin:end], t["dtype"]).reshape(t["shape"])
    return out


def write_file(path, tensors):
    """I32 tensors in the order of their names, the same bytes every time."""
    header, at = {}, 0
    for name in sorted(tensors):
        size = tensors[name].nbytes
        header[name] = {"dtype": "I32", "shape": list(tensors[name].shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in sorted(tensors):
            file.write(tensors[name].astype("<i4").tobytes())


class Weights:
    """A checkpoint's matrices and vectors in float64, FP8 ones times the scales of their blocks."""

    def __init__(self, directory, config):
        self.tensors = {}
        self.schemes = {}
        self.block = config.get("quantization_config", {}).get("weight_block_size", [128, 128])
        description = os.path.join(directory, "quant_model_description.json")
        if os.path.exists(description):
            with open(description, encoding="utf-8") as file:
                self.schemes = json.load(file)
        for path in sorted(glob.glob(os.path.join(directory, "*model*.safetensors"))):
            self.tensors.update(read_file(path))

    def scheme(self, name):
        return self.schemes.get(name + ".weight", "FLOAT")

    def integers(self, name):
        """Weights [rows, columns] of a W4A8 matrix: a byte holds rows 2j (low) and 2j + 1."""
        packed = self.tensors[name + ".weight"]
        out = np.empty((2 * packed.shape[0], packed.shape[1]), np.int8)
        out[0::2] = packed << 4 >> 4
        out[1::2] = packed >> 4
        return out

    def has(self, name):
        return name in self.tensors

    def get(self, name):
        scale = self.tensors.pop(name + "_scale_inv", None)
        if scale is not None:
            rows, columns = self.tensors[name].shape
            scale = scale.repeat(self.block[0], 0)[:rows].repeat(self.block[1], 1)[:, :columns]
            self.tensors[name] = self.tensors[name] * scale
        return self.tensors[name]


def rms_norm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps) * weight


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def largest(x, n):
    """Indices of the n largest values of each row; ties go to the lower index."""
    return np.argsort(-x, -1, kind="stable")[..., :n]


class Rope:
    """Frequencies with YaRN, the factor of cosine and sine, and the factor of the softmax scale."""

    def __init__(self, c):
        n, base = c["qk_rope_head_dim"], c["rope_theta"]
        s = c.get("rope_scaling") or {}
        freq = base ** (-np.arange(0, n, 2) / n)
        self.amplitude = self.scale = 1.0
        if s:
            def bound(rotations):
                return n * math.log(s["original_max_position_embeddings"] / (2 * math.pi * rotations)) / \
                    (2 * math.log(base))

            def get(mscale):
                return 1 + 0.1 * mscale * math.log(s["factor"]) if s["factor"] > 1 and mscale else 1.0
            low = max(math.floor(bound(s["beta_fast"])), 0)
            high = min(math.ceil(bound(s["beta_slow"])), n - 1)
            ramp = np.clip((np.arange(n // 2) - low) / (high - low if high > low else 0.001), 0, 1)
            freq = freq * (1 - ramp) + freq / s["factor"] * ramp
            self.amplitude = get(s.get("mscale", 1)) / get(s.get("mscale_all_dim", 0))
            self.scale = get(s.get("mscale_all_dim", 0)) ** 2
        self.freq = freq.astype(np.float32)

    def rotate(self, x):
        """x [T, ..., rope], row t at position t: pairs of neighbours. Angles are float32 products."""
        angle = np.arange(len(x), dtype=np.float32)[:, None] * self.freq
        angle = angle.astype(np.float64).reshape(len(x), *[1] * (x.ndim - 2), -1)
        cos, sin = np.cos(angle) * self.amplitude, np.sin(angle) * self.amplitude
        out = np.empty_like(x)
        out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
        out[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
        return out


class Model:
    def __init__(self, directory):
        with open(os.path.join(directory, "config.json"), encoding="utf-8") as file:
            self.c = json.load(file)
        self.w = Weights(directory, self.c)
        self.rope = Rope(self.c)
        self.layers = self.c["num_hidden_layers"]  # the MTP layer has this number

    def is_moe(self, layer):
        c = self.c
        return bool(c.get("n_routed_experts")) and layer >= c["first_k_dense_replace"] and \
            layer % c.get("moe_layer_freq", 1) == 0

    def norm(self, x, name, eps=None):
        y = rms_norm(x, self.w.get(name + ".weight"), self.c["rms_norm_eps"] if eps is None else eps)
        return y + self.w.get(name + ".bias") if self.w.has(name + ".bias") else y

    def linear(self, x, name):
        scheme, get = self.w.scheme(name), lambda part: self.w.tensors[name + "." + part].astype(np.float64)
        if scheme == "FLOAT":
            return x @ self.w.get(name + ".weight").T
        if scheme == "W8A8":
            q = np.clip(np.rint(x / get("input_scale") + get("input_offset")), -128, 127)
            return (q @ get("weight").T + get("quant_bias")) * get("deq_scale")
        scale = np.abs(x).max(-1, keepdims=True) / 127
        q = np.rint(x / np.where(scale > 0, scale, 1))
        if scheme == "W8A8_DYNAMIC":
            return q @ get("weight").T * scale * get("weight_scale")[:, 0]
        if scheme != "W4A8_DYNAMIC":
            sys.exit("golden_routes.py: %s.weight: unknown scheme %s" % (name, scheme))
        w = self.w.integers(name).astype(np.float64)
        if self.w.schemes["group_size"]:
            w = w * get("weight_scale_second").repeat(self.w.schemes["group_size"], 1)
        return q @ w.T * scale * get("weight_scale")[:, 0]

    def attention(self, x, at):
        c, at = self.c, at + "self_attn."
        heads, nope, rope, v_dim = (c["num_attention_heads"], c["qk_nope_head_dim"], c["qk_rope_head_dim"],
                                    c["v_head_dim"])
        latent, rows = c["kv_lora_rank"], len(x)
        if c.get("q_lora_rank"):
            q = self.linear(self.norm(self.linear(x, at + "q_a_proj"), at + "q_a_layernorm", LATENT_EPS),
                            at + "q_b_proj")
        else:
            q = self.linear(x, at + "q_proj")
        q = q.reshape(rows, heads, nope + rope)
        kv_a = self.linear(x, at + "kv_a_proj_with_mqa")
        kv = self.linear(self.norm(kv_a[:, :latent], at + "kv_a_layernorm", LATENT_EPS), at + "kv_b_proj")
        kv = kv.reshape(rows, heads, nope + v_dim)
        scores = np.einsum("thd,shd->hts", q[..., :nope], kv[..., :nope]) + \
            np.einsum("thd,sd->hts", self.rope.rotate(q[..., nope:]), self.rope.rotate(kv_a[:, latent:]))
        scores *= (nope + rope) ** -0.5 * self.rope.scale
        scores[:, np.arange(rows)[:, None] < np.arange(rows)] = -np.inf
        out = np.einsum("hts,shd->thd", softmax(scores), kv[..., nope:])
        return self.linear(out.reshape(rows, heads * v_dim), at + "o_proj")

    def mlp(self, x, at):
        gate = self.linear(x, at + "gate_proj")
        return self.linear(gate * sigmoid(gate) * self.linear(x, at + "up_proj"), at + "down_proj")

    def route(self, x, at):
        """(ids [T, k] ascending, weights [T, k])"""
        c, rows = self.c, np.arange(len(x))[:, None]
        logits = self.linear(x, at + "gate")
        score = softmax(logits) if c.get("scoring_func", "softmax") == "softmax" else sigmoid(logits)
        choice, method = score, c.get("topk_method", "greedy")
        if method == "noaux_tc":
            choice = score + self.w.get(at + "gate.e_score_correction_bias")
        if method != "greedy" and c["topk_group"] < c["n_group"]:
            grouped = choice.reshape(len(x), c["n_group"], -1)
            top = -np.sort(-grouped, -1)
            best = top[..., :2].sum(-1) if method == "noaux_tc" else top[..., 0]
            kept = np.zeros(best.shape, bool)
            kept[rows, largest(best, c["topk_group"])] = True
            choice = np.where(kept[..., None], grouped, -np.inf).reshape(choice.shape)
        ids = np.sort(largest(choice, c["num_experts_per_tok"]), -1)
        weights = score[rows, ids]
        if c.get("norm_topk_prob"):
            weights = weights / (weights.sum(-1, keepdims=True) + 1e-20)
        return ids, weights * c.get("routed_scaling_factor", 1.0)

    def moe(self, x, at):
        ids, weights = self.route(x, at)
        out = self.mlp(x, at + "shared_experts.") if self.c.get("n_shared_experts") else np.zeros_like(x)
        for e in np.unique(ids):
            rows, place = np.nonzero(ids == e)
            out[rows] += weights[rows, place, None] * self.mlp(x[rows], at + "experts.%d." % e)
        return out, ids

    def layer(self, x, layer):
        """(x after the layer, ids of its experts or None)"""
        at, ids = "model.layers.%d." % layer, None
        x = x + self.attention(self.norm(x, at + "input_layernorm"), at)
        h = self.norm(x, at + "post_attention_layernorm")
        if self.is_moe(layer):
            y, ids = self.moe(h, at + "mlp.")
        else:
            y = self.mlp(h, at + "mlp.")
        return x + y, ids

    def head(self, x):
        name = "lm_head.weight" if self.w.has("lm_head.weight") else "model.embed_tokens.weight"
        return x @ self.w.get(name).T

    def forward(self, tokens):
        """(logits [T, vocab], normed state [T, hidden], experts [MoE layers, T, k])"""
        x, experts = self.w.get("model.embed_tokens.weight")[tokens], []
        for layer in range(self.layers):
            x, ids = self.layer(x, layer)
            if ids is not None:
                experts.append(ids)
        x = self.norm(x, "model.norm")
        return self.head(x), x, np.array(experts)

    def mtp(self, tokens, state):
        """Slot i joins the state of token i with token i + 1: (logits [T - 1, vocab], experts [T - 1, k])"""
        at = "model.layers.%d." % self.layers
        both = np.concatenate([self.norm(self.w.get("model.embed_tokens.weight")[tokens[1:]], at + "enorm"),
                               self.norm(state[:-1], at + "hnorm")], -1)
        x, ids = self.layer(self.linear(both, at + "eh_proj"), self.layers)
        return self.head(self.norm(x, at + "shared_head.norm")), ids


def compare(what, got, want):
    """Prints the rms difference of rows of logits; returns the worst row's."""
    rows = np.sqrt(np.mean((got - want) ** 2, -1))
    print("%-13s %4d rows, rms difference %.1e, worst row %.1e" % (what, len(rows), np.sqrt(np.mean(rows**2)),
                                                                   rows.max()))
    return float(rows.max()) if np.isfinite(rows).all() else math.inf


def main(directory):
    golden = read_file(os.path.join(directory, "golden.safetensors"))
    model, routes, worst, n = Model(directory), {}, 0.0, 0
    while "prompt.%d.ids" % n in golden:
        at = "prompt.%d." % n
        tokens = golden[at + "ids"]
        logits, state, routes[at + "experts"] = model.forward(tokens)
        worst = max(worst, compare("prompt %d" % n, logits, golden[at + "logits"]))
        if at + "mtp_logits" in golden:
            logits, routes[at + "mtp_experts"] = model.mtp(tokens, state)
            worst = max(worst, compare("prompt %d MTP" % n, logits, golden[at + "mtp_logits"]))
        n += 1
    if n == 0 or worst > WORST_ROW:
        sys.exit("golden_routes.py: %s: logits differ by up to %.3g, at most %g; nothing written" %
                 (directory, worst, WORST_ROW))
    write_file(os.path.join(directory, "routes.safetensors"),
               {name: np.asarray(ids, np.int32) for name, ids in routes.items()})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
