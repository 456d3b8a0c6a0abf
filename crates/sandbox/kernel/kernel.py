"""The interpreter of a code world: runs cells one after the other, and keeps their globals.

It reads frames (length, call, JSON) from descriptor 3 and answers each with one. Standard output and
error go to descriptors 1 and 2 as they are written. One thread, no child: so that the whole process
can be saved at any moment.
"""

import ast
import base64
import gc
import io
import json
import linecache
import os
import signal
import socket
import struct
import sys
import time
import traceback

MAX_VALUE = 64 * 1024
MAX_IMAGES = 16

link = socket.socket(fileno=3)
link.set_inheritable(False)
user = {"__name__": "__main__", "__builtins__": __builtins__}
count = 0
running = False


def receive(size):
    parts = []
    while size:
        part = link.recv(min(size, 1 << 20))
        if not part:
            os._exit(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def answer(call, body):
    data = json.dumps(body).encode()
    link.sendall(struct.pack("<II", len(data), call) + data)


def interrupted(*_):
    # Outside a cell there is nothing to interrupt.
    if running:
        raise KeyboardInterrupt


def shorten(text):
    return text if len(text) <= MAX_VALUE else text[:MAX_VALUE] + f"… ({len(text)} characters)"


def figures():
    """PNG images of all open figures of matplotlib, which are closed by that."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return []
    images = []
    for number in pyplot.get_fignums()[:MAX_IMAGES]:
        file = io.BytesIO()
        pyplot.figure(number).savefig(file, format="png")
        images.append(base64.b64encode(file.getvalue()).decode())
    pyplot.close("all")
    return images


def run(code):
    """Runs a cell; gives the value of its last expression."""
    name = f"<cell {count}>"
    linecache.cache[name] = (len(code), None, code.splitlines(True), name)
    tree = ast.parse(code, name)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)
    exec(compile(tree, name, "exec"), user)
    if last is None:
        return None
    value = eval(compile(last, name, "eval"), user)
    if value is not None:
        user["_"] = value
    return value


def failure(error):
    kind = type(error)
    trace = error.__traceback__
    # Frames of this file are of no interest to the author of a cell.
    while trace is not None and trace.tb_frame.f_globals is globals():
        trace = trace.tb_next
    lines = traceback.format_exception(kind, error, trace)
    return {"name": kind.__name__, "message": shorten(str(error)), "traceback": shorten("".join(lines))}


def cell(code):
    global count, running
    count += 1
    body = {"status": "ok", "execution_count": count, "value": None, "error": None, "images": []}
    try:
        running = True
        value = run(code)
        if value is not None:
            body["value"] = shorten(repr(value))
        body["images"] = figures()
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
        body["status"] = "ok" if code == 0 else "error"
        if code:
            body["error"] = failure(exit)
    except BaseException as error:
        body["status"] = "interrupted" if isinstance(error, KeyboardInterrupt) else "error"
        body["error"] = failure(error)
    finally:
        running = False
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    return body


generators = []


def watch_generators():
    """Remembers NumPy's generators as they are made: a branch has to be able to reseed them."""
    module = sys.modules.get("numpy.random")
    if module is None or hasattr(module, "_worldline"):
        return
    make = module.default_rng

    def default_rng(*arguments, **named):
        made = make(*arguments, **named)
        # They allow no weak references: one that only this list and this loop hold is forgotten.
        generators[:] = [one for one in generators if sys.getrefcount(one) > 3]
        generators.append(made)
        return made

    default_rng.__doc__ = make.__doc__
    module.default_rng = default_rng
    module._worldline = True


def reseed(seed):
    """Gives this process its own randomness; the same again for the same seed."""
    import random

    random.seed(seed)
    ssl = sys.modules.get("_ssl")
    if ssl is not None:
        ssl.RAND_add(os.urandom(32), 32.0)
    numpy = sys.modules.get("numpy.random")
    if numpy is None:
        return
    numpy.seed(seed % 2**32)
    alive = generators + [value for value in user.values() if isinstance(value, (numpy.Generator, numpy.RandomState))]
    seen = set()
    for at, generator in enumerate(alive):
        bits = getattr(generator, "bit_generator", None) or generator._bit_generator
        if id(bits) not in seen:
            seen.add(id(bits))
            bits.state = type(bits)(seed + at + 1).state


def know_network(networked, variables):
    """Tells programs of the way out, where there is one; what someone set is theirs."""
    for name, value in variables.items():
        if networked:
            os.environ[name] = value
        elif os.environ.get(name) == value:
            del os.environ[name]


def offer_universe():
    """Gives cells the names of a learned world and its players, where the image has them."""
    try:
        from worldline import universe
        user.update({name: getattr(universe, name) for name in universe.__all__})
    except ModuleNotFoundError:
        pass
    except Exception as error:
        # A package that is not for this image: its worlds begin all the same.
        print(f"worldline: {error}", file=sys.stderr)


def load(names):
    """Loads what cells are to find loaded. None of it is ever garbage: whoever looks through it for garbage
    writes on every page of it, which each branch would then have to itself."""
    gc.disable()
    for name in names:
        try:
            __import__(name)
        except ImportError as error:
            print(f"{name}: {error}", file=sys.stderr)
    offer_universe()
    gc.freeze()
    gc.enable()


def main():
    signal.signal(signal.SIGINT, interrupted)
    sys.argv = [""]
    sys.path[0] = ""
    load(os.environ.pop("WORLDLINE_PRELOAD", "").split())
    while True:
        try:
            length, call = struct.unpack("<II", receive(8))
            message = json.loads(receive(length))
            if message["op"] == "reseed":
                reseed(message["seed"])
                know_network(message["networked"], message["variables"])
                answer(call, {"status": "ok"})
                continue
            watch_generators()
            begun = time.perf_counter()
            body = cell(message["code"])
            body["seconds"] = time.perf_counter() - begun
            answer(call, body)
        except KeyboardInterrupt:
            pass


main()
