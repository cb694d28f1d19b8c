#!/usr/bin/env python3
"""Writes a BF16 checkpoint once more as msmodelslim would: W8A8, or W4A8 with experts of 4 bits.

usage: quantize_demo.py w8a8|w4a8 MODEL_DIR PROMPTS OUT_DIR

Attention is static W8A8, calibrated by minimum and maximum over the prompts (prompt.N.ids of a golden.safetensors);
dense and shared MLPs, and the MTP layer's experts, are W8A8 by row of the input; so are the other experts, or int4 with
a scale per row. kv_b_proj, router, eh_proj, embedding, head and norms stay as they are. Nothing is
smoothed or rotated: this makes test models of the demo's size, whose answers can be compared with the demo's own.
Needs numpy.

   tools/quantize_demo.py w4a8 models/demo tests/data/demo/golden.safetensors /tmp/demo-w4a8
   fathom run /tmp/demo-w4a8 "What does fathom run do?" --temperature 0
"""
import argparse
import json
import os
import re
import shutil
import struct
import sys

import numpy as np

from golden_routes import Model, read_file

STATIC = re.compile(r"self_attn\.(q_a_proj|kv_a_proj_with_mqa|q_b_proj|q_proj|o_proj)\.weight$")
DYNAMIC = re.compile(r"(gate_proj|up_proj|down_proj)\.weight$")
EXPERT = re.compile(r"layers\.(\d+)\.mlp\.experts\.")
DOCUMENTS = ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


class Calibration(Model):
    """A forward in float64 that remembers the smallest and largest input of every matrix."""

    def __init__(self, directory):
        super().__init__(directory)
        self.range = {}

    def linear(self, x, name):
        low, high = self.range.get(name, (0.0, 0.0))  # zero stays exact
        self.range[name] = min(low, float(x.min())), max(high, float(x.max()))
        return super().linear(x, name)


def rounded(x, limit):
    return np.clip(np.rint(x), -limit, limit)


def bf16(x):
    """To the nearest BF16, ties to even, as float64."""
    bits = np.asarray(x, "<f4").view("<u4")
    bits = bits + 0x7FFF + (bits >> 16 & 1) & 0xFFFF0000
    return bits.astype("<u4").view("<f4").astype(np.float64)


def by_row(w, limit):
    """(integers, scales [rows, 1])"""
    scale = np.abs(w).max(1, keepdims=True) / limit
    scale = np.where(scale > 0, scale, 1.0).astype("<f4").astype(np.float64)
    return rounded(w / scale, limit), scale


def quantize_static(w, name, low, high):
    q, scale = by_row(w, 127)
    input_scale = bf16(max((high - low) / 255, 1e-8))
    offset = bf16(np.clip(np.rint(-128 - low / input_scale), -128, 127))
    return {
        "weight": q.astype("i1"),
        "weight_scale": scale.astype("<f4"),
        "weight_offset": np.zeros_like(scale, "<f4"),
        "input_scale": input_scale.reshape(1),
        "input_offset": offset.reshape(1),
        "deq_scale": (scale[:, 0] * input_scale).astype("<f4"),
        "quant_bias": np.rint(-q.sum(1) * offset).astype("<i4"),
    }


def quantize_dynamic(w):
    q, scale = by_row(w, 127)
    return {"weight": q.astype("i1"), "weight_scale": scale.astype("<f4"),
            "weight_offset": np.zeros_like(scale, "<f4")}


def quantize_int4(w):
    """Rows 2j and 2j + 1 in the low and the high half of a byte."""
    q, scale = by_row(w, 7)
    nibbles = q.astype("i1").view("u1") & 15
    return {
        "weight": (nibbles[0::2] | nibbles[1::2] << 4).view("i1"),
        "weight_scale": scale.astype("<f4"),
        "weight_offset": np.zeros_like(scale, "<f4"),
        "scale_bias": (8 * (q * scale).sum(1, keepdims=True)).astype("<f4"),
    }


def encode(array):
    """(dtype, bytes): float64 values are BF16 by now."""
    if array.dtype == np.float64:
        return "BF16", (np.ascontiguousarray(array, "<f4").view("<u4") >> 16).astype("<u2").tobytes()
    names = {"<f4": "F32", "|i1": "I8", "<i4": "I32"}
    return names[array.dtype.str], np.ascontiguousarray(array).tobytes()


def write(path, tensors):
    header, blobs, at = {}, [], 0
    for name in sorted(tensors):
        dtype, blob = encode(tensors[name])
        header[name] = {"dtype": dtype, "shape": list(tensors[name].shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(blobs)


def calibrate(directory, prompts):
    model, golden, n = Calibration(directory), read_file(prompts), 0
    while "prompt.%d.ids" % n in golden:
        tokens = golden["prompt.%d.ids" % n]
        _, state, _ = model.forward(tokens)
        if model.c.get("num_nextn_predict_layers") and len(tokens) > 1:
            model.mtp(tokens, state)
        n += 1
    if n == 0:
        sys.exit("quantize_demo.py: %s: no prompt.0.ids" % prompts)
    return model


def quantize(args, model):
    """(tensors, description)"""
    out, description = {}, {"model_quant_type": "W8A8_DYNAMIC", "version": "1.0.0", "group_size": 0}
    for name, tensor in sorted(model.w.tensors.items()):
        module = name[:-len(".weight")]
        expert = EXPERT.search(name)
        if STATIC.search(name):
            scheme, parts = "W8A8", quantize_static(tensor, module, *model.range.get(module, (0.0, 0.0)))
        elif DYNAMIC.search(name) and args.format == "w4a8" and expert and int(expert[1]) < model.layers:
            scheme, parts = "W4A8_DYNAMIC", quantize_int4(tensor)
        elif DYNAMIC.search(name):
            scheme, parts = "W8A8_DYNAMIC", quantize_dynamic(tensor)
        else:
            description[name] = "FLOAT"
            out[name] = tensor.astype("<f4") if name.endswith("e_score_correction_bias") else tensor
            continue
        for part, value in parts.items():
            out[module + "." + part] = value
            description[module + "." + part] = scheme
    return out, description


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("format", choices=("w8a8", "w4a8"))
    parser.add_argument("model")
    parser.add_argument("prompts")
    parser.add_argument("out")
    args = parser.parse_args()
    model = calibrate(args.model, args.prompts)
    tensors, description = quantize(args, model)
    os.makedirs(args.out)
    write(os.path.join(args.out, "quant_model_weight_w8a8_dynamic.safetensors"), tensors)
    with open(os.path.join(args.out, "quant_model_description.json"), "w", encoding="utf-8") as file:
        json.dump(description, file, indent=1)
    config = dict(model.c, mla_quantize="w8a8", quantize="w8a8_dynamic", mtp_quantize="w8a8_dynamic")
    if args.format == "w4a8":
        config["moe_quantize"] = "w4a8_dynamic"
    with open(os.path.join(args.out, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file, indent=2)
    for name in DOCUMENTS:
        if os.path.exists(os.path.join(args.model, name)):
            shutil.copy(os.path.join(args.model, name), args.out)


if __name__ == "__main__":
    main()
