#!/usr/bin/env python3
"""Writes a BF16 checkpoint once more as msmodelslim would: W8A8, or W4A8 with experts of 4 bits.

usage: quantize_demo.py w8a8|w4a8 MODEL_DIR RANGES OUT_DIR
       quantize_demo.py calibrate MODEL_DIR PROMPTS RANGES

Attention is static W8A8, by the smallest and largest inputs that RANGES names for each matrix; dense and shared MLPs, and the
MTP layer's experts, are W8A8 by row of the input; so are the other experts, or int4 with a scale per row. kv_b_proj,
router, eh_proj, embedding, head and norms stay as they are. Nothing is smoothed or rotated: this makes test models of the demo's
size, whose answers can be compared with the demo's own. tools/demo/README.md has their scores.

`calibrate` finds the ranges over PROMPTS (prompt.N.ids of a golden.safetensors) and needs numpy; the rest is standard library.

   tools/quantize_demo.py w4a8 models/demo tests/data/demo/ranges.json /tmp/demo-w4a8
   fathom run /tmp/demo-w4a8 "What does fathom run do?" --temperature 0
"""
import array
import collections
import json
import os
import re
import shutil
import struct
import sys

STATIC = re.compile(r"self_attn\.(q_a_proj|kv_a_proj_with_mqa|q_b_proj|q_proj|o_proj)\.weight$")
DYNAMIC = re.compile(r"(gate_proj|up_proj|down_proj)\.weight$")
EXPERT = re.compile(r"layers\.(\d+)\.mlp\.experts\.")
DOCUMENTS = ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")

Tensor = collections.namedtuple("Tensor", "dtype shape data")


def load_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def bf16(x):
    """The bits of the nearest BF16, ties to even."""
    bits, = struct.unpack("<I", struct.pack("<f", x))
    return bits + 0x7FFF + (bits >> 16 & 1) >> 16


def value(bits):
    return struct.unpack("<f", struct.pack("<I", bits << 16))[0]


VALUES = [value(bits) for bits in range(1 << 16)]


def floats(values):
    return array.array("f", values).tobytes()


def read(path):
    with open(path, "rb") as file:
        size, = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(size)), file.read()
    return {name: Tensor(t["dtype"], t["shape"], data[slice(*t["data_offsets"])])
            for name, t in header.items() if name != "__metadata__"}


def write(path, tensors):
    header, at = {}, 0
    for name, t in sorted(tensors.items()):
        header[name] = {"dtype": t.dtype, "shape": t.shape, "data_offsets": [at, at + len(t.data)]}
        at += len(t.data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, t in sorted(tensors.items()):
            file.write(t.data)


def by_row(tensor, limit):
    """(rows of integers, a scale for each)"""
    if tensor.dtype != "BF16":
        sys.exit("quantize_demo.py: a matrix is %s, expected BF16" % tensor.dtype)
    bits, columns = array.array("H", tensor.data), tensor.shape[1]
    rows, scales = [], []
    for at in range(0, len(bits), columns):
        row = list(map(VALUES.__getitem__, bits[at:at + columns]))
        scale = f32(max(max(row), -min(row)) / limit) or 1.0
        rows.append([round(x / scale) for x in row])
        scales.append(scale)
    return rows, scales


def integers(rows):
    return b"".join(array.array("b", row).tobytes() for row in rows)


def scales_of(scales):
    shape = [len(scales), 1]
    return {"weight_scale": Tensor("F32", shape, floats(scales)),
            "weight_offset": Tensor("F32", shape, floats([0.0] * len(scales)))}


def quantize_static(tensor, low, high):
    rows, scales = by_row(tensor, 127)
    scale_bits = bf16(max((high - low) / 255, 1e-8))
    scale = value(scale_bits)
    offset = max(-128, min(127, round(-128 - low / scale)))
    n = len(rows)
    return dict(
        scales_of(scales),
        weight=Tensor("I8", tensor.shape, integers(rows)),
        input_scale=Tensor("BF16", [1], struct.pack("<H", scale_bits)),
        input_offset=Tensor("BF16", [1], struct.pack("<H", bf16(offset))),
        deq_scale=Tensor("F32", [n], floats(s * scale for s in scales)),
        quant_bias=Tensor("I32", [n], array.array("i", (-sum(row) * offset for row in rows)).tobytes()))


def quantize_dynamic(tensor):
    rows, scales = by_row(tensor, 127)
    return dict(scales_of(scales), weight=Tensor("I8", tensor.shape, integers(rows)))


def quantize_int4(tensor):
    """Rows 2j and 2j + 1 in the low and the high half of a byte."""
    rows, scales = by_row(tensor, 7)
    packed = b"".join(bytes(low & 15 | (high & 15) << 4 for low, high in zip(*rows[i:i + 2])) for i in range(0, len(rows), 2))
    return dict(
        scales_of(scales),
        weight=Tensor("I8", [len(rows) // 2, tensor.shape[1]], packed),
        scale_bias=Tensor("F32", [len(rows), 1], floats(8 * sum(row) * s for row, s in zip(rows, scales))))


def quantize(kind, tensors, ranges, layers):
    """(tensors, description)"""
    out, description = {}, {"model_quant_type": "W8A8_DYNAMIC", "version": "1.0.0", "group_size": 0}
    for name, tensor in sorted(tensors.items()):
        module = name[:-len(".weight")]
        expert = EXPERT.search(name)
        if STATIC.search(name):
            if module not in ranges:
                sys.exit("quantize_demo.py: no range for " + module)
            scheme, parts = "W8A8", quantize_static(tensor, *ranges[module])
        elif DYNAMIC.search(name) and kind == "w4a8" and expert and int(expert[1]) < layers:
            scheme, parts = "W4A8_DYNAMIC", quantize_int4(tensor)
        elif DYNAMIC.search(name):
            scheme, parts = "W8A8_DYNAMIC", quantize_dynamic(tensor)
        else:
            description[name] = "FLOAT"
            out[name] = tensor
            continue
        for part, made in parts.items():
            out[module + "." + part] = made
            description[module + "." + part] = scheme
    return out, description


def make(kind, directory, ranges, target):
    config = load_json(os.path.join(directory, "config.json"))
    tensors, description = quantize(kind, read(os.path.join(directory, "model.safetensors")), load_json(ranges),
                                    config["num_hidden_layers"])
    os.makedirs(target)
    write(os.path.join(target, "quant_model_weight_w8a8_dynamic.safetensors"), tensors)
    config.update(mla_quantize="w8a8", quantize="w8a8_dynamic", mtp_quantize="w8a8_dynamic")
    if kind == "w4a8":
        config["moe_quantize"] = "w4a8_dynamic"
    for name, document in (("quant_model_description.json", description), ("config.json", config)):
        with open(os.path.join(target, name), "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
    for name in DOCUMENTS:
        if os.path.exists(os.path.join(directory, name)):
            shutil.copyfile(os.path.join(directory, name), os.path.join(target, name))


def calibrate(directory, prompts, target):
    from golden_routes import Model, read_file

    class Calibration(Model):
        """A forward in float64 that remembers the smallest and largest input of every static matrix."""

        def linear(self, x, name):
            if STATIC.search(name + ".weight"):
                low, high = ranges.get(name, (0.0, 0.0))  # zero stays exact
                ranges[name] = min(low, float(x.min())), max(high, float(x.max()))
            return super().linear(x, name)

    ranges, n = {}, 0
    model, golden = Calibration(directory), read_file(prompts)
    while "prompt.%d.ids" % n in golden:
        tokens = golden["prompt.%d.ids" % n]
        _, state, _ = model.forward(tokens)
        if model.c.get("num_nextn_predict_layers") and len(tokens) > 1:
            model.mtp(tokens, state)
        n += 1
    if n == 0:
        sys.exit("quantize_demo.py: %s: no prompt.0.ids" % prompts)
    with open(target, "w", encoding="utf-8") as file:
        json.dump({name: [round(x, 4) for x in ranges[name]] for name in sorted(ranges)}, file, indent=0)
        file.write("\n")


def main():
    if len(sys.argv) != 5 or sys.argv[1] not in ("w8a8", "w4a8", "calibrate"):
        sys.exit(__doc__)
    if sys.argv[1] == "calibrate":
        calibrate(*sys.argv[2:])
    else:
        make(*sys.argv[1:])


if __name__ == "__main__":
    main()
