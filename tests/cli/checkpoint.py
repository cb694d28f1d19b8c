"""Reads and writes safetensors files, and makes damaged copies of checkpoints. Standard library only."""
import contextlib
import json
import os
import shutil
import struct
import tempfile


def read(path):
    """Returns (header, data): the parsed JSON header and the bytes after it."""
    with open(path, "rb") as file:
        size, = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(size)), file.read()


def write(path, header, data):
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


@contextlib.contextmanager
def copy(source, *more):
    """A writable copy of a checkpoint directory and of further files, removed at the end."""
    with tempfile.TemporaryDirectory() as top:
        target = os.path.join(top, "model")
        shutil.copytree(source, target, copy_function=shutil.copyfile)
        for path in more:
            shutil.copyfile(path, os.path.join(target, os.path.basename(path)))
        yield target


def edit_json(directory, name, **changes):
    """Sets keys of a JSON file; a value of None removes the key."""
    path = os.path.join(directory, name)
    with open(path, encoding="utf-8") as file:
        value = json.load(file)
    for key, new in changes.items():
        if new is None:
            value.pop(key, None)
        else:
            value[key] = new
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file)
