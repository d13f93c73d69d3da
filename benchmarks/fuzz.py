"""Feed damaged files to everything that reads a file; count what is neither read nor refused.

    python benchmarks/fuzz.py --seconds 60
    python benchmarks/fuzz.py --seconds 60 --guided     (needs: pip install atheris)

Each parser gets mutations of good files: bytes changed, cut out, doubled, filled with zeros, whole
numbers set to their limits. Right is a result, or the parser's own one-line error. A crash of the
process, any other error, more than 2 GB of memory or 20 seconds for one file is a finding; its file
is kept. `--guided` lets atheris choose the mutations by what code they reach.
"""

import argparse
import contextlib
import importlib
import io
import json
import os
import pathlib
import random
import resource
import signal
import sys
import tempfile
import time
import traceback

import numpy as np

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

observed = contextlib.nullcontext()
if "--guided" in sys.argv:
    import atheris

    observed = atheris.instrument_imports(include=["mixer_tf", "PIL", "zipfile"])
with observed:
    import zipfile

    from PIL import Image

    from mixer_tf import runs
    from mixer_tf.data import load_data
    from mixer_tf.reading import decoding
    from mixer_tf.storage import npz

KINDS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")


def _picture(kind):
    stream = io.BytesIO()
    Image.effect_noise((9, 7), 90).convert("RGB").save(stream, kind)
    return stream.getvalue()


def _zip():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(20):  # of fewer, none can be held out
            archive.writestr(f"{'cat' if i % 2 else 'dog'}/{i}.png", _picture("PNG"))
    return stream.getvalue()


def _npz():
    stream = io.BytesIO()
    arrays = {"stem/kernel": np.ones((2, 2, 3, 4), "float32"), "head/bias": np.ones(3, "half")}
    np.savez(stream, **arrays)
    return stream.getvalue()


def _safetensors():
    from safetensors.numpy import save

    return save({"head.weight": np.ones((3, 2), "float32"), "head.bias": np.ones(3, "half")})


def _config():
    from mixer_tf.recipe import Recipe

    model = {"num_blocks": 1, "hidden_dim": 8, "tokens_mlp_dim": 4, "channels_mlp_dim": 16}
    values = {"format": 1, "version": "0.1.0", "model": model, "input_shape": [16, 16, 3]}
    values |= {"class_names": ["a", "b"], "data": "digits", "recipe": Recipe().to_dict(), "seed": 0}
    return json.dumps({**values, "precision": "float32", "command": ""}).encode()


def _network():
    import keras

    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")])


def _h5():
    with tempfile.TemporaryDirectory() as folder:
        _network().save_weights(f"{folder}/w.weights.h5")
        return pathlib.Path(folder, "w.weights.h5").read_bytes()


def read_npz(path):
    """All arrays of a checkpoint."""
    with npz.NpzFile(path) as file:
        return [file.read(name) for name in file.shapes]


def read_safetensors(path):
    """All arrays of a timm checkpoint."""
    from mixer_tf.exchange.timm_weights import TimmFile

    with TimmFile(path) as file:
        return [file.read(name) for name in file.shapes]


def read_h5(path):
    """Keras's weights into a model."""
    from mixer_tf.storage import h5

    h5.load_weights(_network(), path)


def read_config(path):
    """What describes a run."""
    return runs.Run(path.parent).config()


def read_picture(path):
    """Pixels, and what a report says of them."""
    return decoding.read(path, decoding.rgb), decoding.read(path, decoding.kinds)


# name of a file: (seeds, parser)
PARSERS = {
    "weights.npz": (lambda: [_npz()], read_npz),
    "w.safetensors": (lambda: [_safetensors()], read_safetensors),
    "config.json": (lambda: [_config()], read_config),
    "pets.zip": (lambda: [_zip()], lambda path: load_data(path, (8, 8))),
    "picture.jpg": (lambda: [_picture(kind) for kind in KINDS], read_picture),
    "w.weights.h5": (lambda: [_h5()], read_h5),
}


def mutated(content, draws):
    """A copy with one to eight things wrong."""
    content = bytearray(content)
    for _ in range(draws.choice((1, 1, 2, 4, 8))):
        at = draws.randrange(len(content) + 1)
        size = draws.choice((1, 2, 4, 8, 64))
        kind = draws.randrange(6)
        if kind == 0:
            content[at : at + 1] = bytes([draws.randrange(256)])
        elif kind == 1:
            del content[at : at + size]
        elif kind == 2:
            content[at:at] = content[at : at + size]
        elif kind == 3:
            content[at : at + size] = bytes(size)
        elif kind == 4:
            limit = draws.choice((0, 1, 0x7F, 0x80, 0xFF))
            content[at : at + size] = bytes([limit]) * size
        else:
            content = content[: max(1, at)] if draws.random() < 0.1 else content
    return bytes(content)


def checked(contents, parse, path):
    """The files as they are; one that is refused would hide from what follows."""
    for content in contents:
        path.write_bytes(content)
        parse(path)
    return contents


def attempt(parse, path):
    """What is wrong with how a file was taken, empty where nothing is."""
    try:
        parse(path)
    except ValueError as error:
        lines = str(error).splitlines()
        return "" if len(lines) == 1 else f"{len(lines)} lines: {error}"
    except BaseException as error:  # a panic of a library in Rust is no Exception
        return f"{type(error).__name__}: {error}"
    return ""


def work(name, seconds, seed, folder, channel):
    """Feed one parser; a line into `channel` for each file."""
    seeds, parse = PARSERS[name]
    draws, path = random.Random(seed), folder / name
    contents = checked(seeds(), parse, path)
    size = resource.getpagesize() * int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (size + (2 << 30), resource.RLIM_INFINITY))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        path.write_bytes(mutated(draws.choice(contents), draws))
        signal.alarm(20)
        wrong = attempt(parse, path)
        signal.alarm(0)
        os.write(channel, (" ".join(wrong.split())[:200] + "\n").encode())


def fuzz(name, seconds, seed):
    """How many files a parser was fed, and the findings."""
    count, findings, end = 0, [], time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        while (left := end - time.monotonic()) > 0:
            reading, writing = os.pipe()
            child = os.fork()
            if not child:
                try:
                    work(name, left, seed + count, pathlib.Path(folder), writing)
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)
                os._exit(0)
            os.close(writing)
            with os.fdopen(reading) as lines:
                said = [line.strip() for line in lines]
            _, status = os.waitpid(child, 0)
            count += len(said) + bool(status)
            findings += [line for line in said if line]
            if status:
                kept = pathlib.Path(tempfile.gettempdir(), f"found-{count}-{name}")
                kept.write_bytes(pathlib.Path(folder, name).read_bytes())
                findings.append(f"ended with {os.waitstatus_to_exitcode(status)}: {kept}")
    return count, findings


def guided(name, seconds):
    """The same, by atheris, which ends the process at the first finding."""
    seeds, parse = PARSERS[name]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as corpus:
        path = pathlib.Path(folder, name)
        for i, content in enumerate(checked(seeds(), parse, path)):
            pathlib.Path(corpus, str(i)).write_bytes(content)

        def one(content):
            path.write_bytes(content)
            if wrong := attempt(parse, path):
                raise RuntimeError(wrong)

        options = [f"-max_total_time={seconds}", "-rss_limit_mb=4000", "-timeout=20", corpus]
        atheris.Setup([sys.argv[0], *options], one)
        atheris.Fuzz()


def main():
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="For each parser.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=PARSERS)
    parser.add_argument("--guided", action="store_true", help="One parser in Python: give --only.")
    options = parser.parse_args()
    if options.guided:
        guided(options.only, options.seconds)
        return
    importlib.import_module("mixer_tf.exchange.timm_weights")  # once, not in every child
    for name in [options.only] if options.only else PARSERS:
        count, findings = fuzz(name, options.seconds, options.seed)
        print(f"{name}: {count:,} files, {len(findings)} findings", flush=True)
        for finding in sorted(set(findings))[:20]:
            print(f"  {finding}")


if __name__ == "__main__":
    main()
