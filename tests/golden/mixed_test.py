"""Descriptions that mix FLOAT with integers: matrices of the W8A8 checkpoint turned back to BF16, beside others that read
8-bit inputs of the same rows. The reference quantized these inputs too, hence the wider limits."""
import os
import re
import struct

import checkpoint
from fathom import GOLDEN, Case, main, run

DESCRIPTION = "quant_model_description.json"
VARIANTS = {
    # The shared expert reads BF16, the routed ones integers; o_proj reads what attention writes as BF16.
    "shared": r"model\.layers\.(0\.mlp|1\.self_attn\.o_proj|1\.mlp\.shared_experts)",
    "routed": r"model\.layers\.(1\.mlp\.experts|2\.mlp)",
    "attention": r"model\.layers\.[012]\.self_attn\.o_proj",
}


def bf16(x):
    bits, = struct.unpack("<I", struct.pack("<f", x))
    return bits + 0x7FFF + (bits >> 16 & 1) >> 16


def dequantize(weight, shape, scales):
    out = []
    for row in range(shape[0]):
        values = struct.unpack("%db" % shape[1], weight[row * shape[1]:(row + 1) * shape[1]])
        table = {q: bf16(q * scales[row]) for q in set(values)}
        out.extend(table[q] for q in values)
    return struct.pack("<%dH" % len(out), *out)


def read_all(directory):
    """{name: (info, data)} of all weights, whose files go away."""
    tensors = {}
    for name in sorted(os.listdir(directory)):
        if name.startswith("quant_model_weight"):
            path = os.path.join(directory, name)
            if name.endswith(".safetensors"):
                info, data = checkpoint.read(path)
                info.pop("__metadata__", None)
                tensors.update((k, (t, data[slice(*t["data_offsets"])])) for k, t in info.items())
            os.remove(path)
    return tensors


def write_all(directory, tensors):
    header, blobs, at = {}, [], 0
    for name, (info, data) in tensors.items():
        header[name] = {"dtype": info["dtype"], "shape": info["shape"], "data_offsets": [at, at + len(data)]}
        blobs.append(data)
        at += len(data)
    checkpoint.write(os.path.join(directory, "model.safetensors"), header, b"".join(blobs))


def make_float(directory, pattern):
    """Writes the checkpoint anew with the matching modules in BF16."""
    tensors, out, changed = read_all(directory), {}, {}
    for name, (info, data) in tensors.items():
        module, _, part = name.rpartition(".")
        dtype, scheme = info["dtype"], tensors.get(module + ".weight_scale")
        if re.match(pattern, name) and scheme:
            if part != "weight":
                continue
            data = dequantize(data, info["shape"], struct.unpack("<%df" % info["shape"][0], scheme[1]))
            dtype, changed[name] = "BF16", "FLOAT"
        out[name] = dict(info, dtype=dtype), data
    write_all(directory, out)
    checkpoint.edit_json(directory, DESCRIPTION, **changed)


def double_input_scale(directory):
    """kv_a_proj_with_mqa reads its input half as fine as q_a_proj reads the same rows."""
    tensors = read_all(directory)
    for name in [name for name in tensors if name.endswith("kv_a_proj_with_mqa.weight")]:
        at = name[:-len("weight")]
        rows, columns = tensors[name][0]["shape"]
        offset, = struct.unpack("<f", b"\0\0" + tensors[at + "input_offset"][1])
        sums = [sum(struct.unpack("%db" % columns, tensors[name][1][r * columns:(r + 1) * columns]))
                for r in range(rows)]
        for part, new in (
                # One more in the exponent of a BF16.
                ("input_scale", lambda data: struct.pack("<H", struct.unpack("<H", data)[0] + 0x80)),
                ("deq_scale", lambda data: struct.pack("<%df" % rows, *(2 * x for x in
                                                                        struct.unpack("<%df" % rows, data)))),
                # bias / deq_scale - sum * offset: the bias stays.
                ("quant_bias", lambda data: struct.pack("<%di" % rows, *(
                    round((x + n * offset) / 2 - n * offset)
                    for x, n in zip(struct.unpack("<%di" % rows, data), sums))))):
            info, data = tensors[at + part]
            tensors[at + part] = info, new(data)
    write_all(directory, tensors)


class Mixed(Case):
    def check(self, limits, change, *args):
        with checkpoint.copy(os.path.join(GOLDEN, "v31-w8a8")) as directory:
            change(directory, *args)
            for mode in ("--no-decode", "--decode"):
                p = run("verify", directory, "--isa", "all", "--json", "--limit", limits[0], "--mtp-limit", limits[1], mode)
                self.assertEqual(p.returncode, 0, p.stdout + p.stderr)

    def test_shared(self):
        self.check(("0.15", "0.25"), make_float, VARIANTS["shared"])

    def test_routed(self):
        self.check(("0.15", "0.25"), make_float, VARIANTS["routed"])

    def test_attention(self):
        self.check(("0.15", "0.25"), make_float, VARIANTS["attention"])

    def test_two_input_scales(self):
        # Twice as coarse: 0.2 and 0.31. The other one's input would cost 1.
        self.check(("0.3", "0.45"), double_input_scale)


if __name__ == "__main__":
    main()
