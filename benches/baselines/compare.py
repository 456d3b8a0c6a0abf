"""One frame of a random-weight Mamba2 at `small`: this project beside PyTorch and ONNX Runtime.

Everything runs in one process after another on one thread, on the same machine, in the same
minute: `worldline bench physics --json`, then PyTorch (fp32, int8 dynamic), then ONNX Runtime
(fp32, int8 dynamic), then `worldline` once more, so that a change of the machine's load shows.
All compute the same blocks: no embeddings and no heads, one token, state carried along.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn
from torch.nn import functional as F

D_MODEL, LAYERS, D_STATE, HEAD, CONV = 256, 8, 16, 64, 4
D_INNER = 2 * D_MODEL
HEADS = D_INNER // HEAD
CONV_DIM = D_INNER + 2 * D_STATE
ROWS = D_INNER + CONV_DIM + HEADS
WARM_UP, FRAMES = 200, 2000


class Block(nn.Module):
    """One Mamba2 block, one token."""

    def __init__(self):
        super().__init__()
        self.in_proj = nn.Linear(D_MODEL, ROWS, bias=False)
        self.out_proj = nn.Linear(D_INNER, D_MODEL, bias=False)
        self.norm = nn.Parameter(torch.ones(D_MODEL))
        self.gate_norm = nn.Parameter(torch.ones(D_INNER))
        self.taps = nn.Parameter(torch.randn(CONV_DIM, CONV) * 0.3)
        self.bias = nn.Parameter(torch.zeros(CONV_DIM))
        self.dt_bias = nn.Parameter(torch.zeros(HEADS))
        self.decay = nn.Parameter(-torch.linspace(1, 8, HEADS))
        self.skip = nn.Parameter(torch.ones(HEADS))

    def forward(self, h, conv, state):
        n = F.rms_norm(h, (D_MODEL,), self.norm)
        z, xbc, dt = self.in_proj(n).split([D_INNER, CONV_DIM, HEADS], -1)
        conv = torch.cat([conv[:, 1:], xbc.view(CONV_DIM, 1)], 1)
        x, b, c = F.silu((conv * self.taps).sum(1) + self.bias).split([D_INNER, D_STATE, D_STATE])
        dt = F.softplus(dt.view(HEADS) + self.dt_bias)
        x = x.view(HEADS, HEAD)
        state = state * torch.exp(dt * self.decay).view(HEADS, 1, 1) + (
            (x * dt.view(HEADS, 1)).unsqueeze(-1) * b
        )
        y = state @ c + x * self.skip.view(HEADS, 1)
        g = F.rms_norm(y.view(1, D_INNER) * F.silu(z), (D_INNER,), self.gate_norm)
        return h + self.out_proj(g), conv, state


def time_frames(frame):
    """Least, median and p99 of one frame, milliseconds."""
    for _ in range(WARM_UP):
        frame()
    times = []
    for _ in range(FRAMES):
        start = time.perf_counter_ns()
        frame()
        times.append((time.perf_counter_ns() - start) / 1e6)
    times.sort()
    p99 = times[int(FRAMES * 0.99)]
    return {"least_ms": times[0], "median_ms": statistics.median(times), "p99_ms": p99}


def torch_frame(blocks):
    conv = [torch.zeros(CONV_DIM, CONV) for _ in blocks]
    state = [torch.zeros(HEADS, HEAD, D_STATE) for _ in blocks]
    token = torch.randn(1, D_MODEL)

    def frame():
        h = token
        with torch.inference_mode():
            for i, block in enumerate(blocks):
                h, conv[i], state[i] = block(h, conv[i], state[i])
        return h

    return frame


def onnx_model(blocks):
    """The same blocks as an ONNX graph; every layer's states are inputs and outputs."""
    nodes, weights, inputs, outputs = [], {}, [], []

    def constant(name, value, kind=np.float32):
        weights.setdefault(name, numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def op(kind, *arguments, out, **attributes):
        outs = [out] if isinstance(out, str) else out
        nodes.append(helper.make_node(kind, list(arguments), outs, **attributes))
        return out

    def tensor(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    def norm(x, scale, length, p):
        squares = op("Mul", x, x, out=p + "sq")
        mean = op("ReduceMean", squares, constant("last", [-1], np.int64), out=p + "mean")
        root = op("Sqrt", op("Add", mean, constant("eps", 1e-6), out=p + "me"), out=p + "root")
        return op("Mul", op("Div", x, root, out=p + "div"), scale, out=p + "out")

    def silu(x, p):
        return op("Mul", x, op("Sigmoid", x, out=p + "sg"), out=p + "silu")

    def array(parameter):
        return parameter.detach().numpy()

    h = "token"
    inputs.append(tensor(h, [1, D_MODEL]))
    for i, block in enumerate(blocks):
        p = f"l{i}."
        inputs += [tensor(p + "conv", [CONV_DIM, CONV]), tensor(p + "ssm", [HEADS, HEAD, D_STATE])]
        n = norm(h, constant(p + "nw", array(block.norm)), D_MODEL, p + "n.")
        projected = op("MatMul", n, constant(p + "in", array(block.in_proj.weight).T), out=p + "pr")
        cuts = constant("cuts", [D_INNER, CONV_DIM, HEADS], np.int64)
        z, xbc, dt = op("Split", projected, cuts, out=[p + "z", p + "xbc", p + "dt"], axis=1)
        column = op("Reshape", xbc, constant("col", [CONV_DIM, 1], np.int64), out=p + "colx")
        one, end = constant("one", [1], np.int64), constant("end", [CONV], np.int64)
        old = op("Slice", p + "conv", one, end, one, out=p + "old")
        op("Concat", old, column, out=p + "conv'", axis=1)
        mixed = op("Mul", p + "conv'", constant(p + "taps", array(block.taps)), out=p + "mix")
        axis = constant("last", [-1], np.int64)
        pre = op("ReduceSum", mixed, axis, out=p + "sum", keepdims=0)
        u = silu(op("Add", pre, constant(p + "cb", array(block.bias)), out=p + "pre"), p + "u.")
        parts = constant("parts", [D_INNER, D_STATE, D_STATE], np.int64)
        x, b, c = op("Split", u, parts, out=[p + "x", p + "b", p + "c"], axis=0)
        biased = op("Add", dt, constant(p + "db", array(block.dt_bias)), out=p + "dtb")
        dt3 = op("Reshape", op("Softplus", biased, out=p + "sp"),
                 constant("heads", [HEADS, 1, 1], np.int64), out=p + "dt3")
        rate = constant(p + "a", array(block.decay).reshape(HEADS, 1, 1))
        decay = op("Exp", op("Mul", dt3, rate, out=p + "ar"), out=p + "decay")
        x3 = op("Reshape", x, constant("x3", [HEADS, HEAD, 1], np.int64), out=p + "x3")
        fresh = op("Mul", op("Mul", x3, dt3, out=p + "xdt"), b, out=p + "fresh")
        kept = op("Mul", p + "ssm", decay, out=p + "kept")
        op("Add", kept, fresh, out=p + "ssm'")
        c3 = op("Reshape", c, constant("c3", [D_STATE, 1], np.int64), out=p + "c3")
        read = op("MatMul", p + "ssm'", c3, out=p + "read")
        skip = constant(p + "d", array(block.skip).reshape(HEADS, 1, 1))
        y = op("Add", read, op("Mul", x3, skip, out=p + "xd"), out=p + "y")
        flat = op("Reshape", y, constant("flat", [1, D_INNER], np.int64), out=p + "yf")
        g = op("Mul", flat, silu(z, p + "z."), out=p + "g")
        g = norm(g, constant(p + "gw", array(block.gate_norm)), D_INNER, p + "g.")
        o = op("MatMul", g, constant(p + "out", array(block.out_proj.weight).T), out=p + "o")
        h = op("Add", h, o, out=p + "h")
        outputs += [tensor(p + "conv'", [CONV_DIM, CONV]), tensor(p + "ssm'", [HEADS, HEAD, D_STATE])]
    outputs.append(tensor(h, [1, D_MODEL]))
    graph = helper.make_graph(nodes, "mamba2", inputs, outputs, list(weights.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model


def onnx_frame(path):
    """States stay in two sets of buffers that the frames read and write in turn: no copies."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    shapes = {i.name: i.shape for i in session.get_inputs()}
    state = {name: shape for name, shape in shapes.items() if name != "token"}

    def buffers():
        return {
            name: ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))
            for name, shape in state.items()
        }

    sets = [buffers(), buffers()]
    random = np.random.default_rng(1).standard_normal((1, D_MODEL)).astype(np.float32)
    token = ort.OrtValue.ortvalue_from_numpy(random)
    last = session.get_outputs()[-1].name
    result = ort.OrtValue.ortvalue_from_numpy(np.zeros((1, D_MODEL), np.float32))
    bindings = []
    for source, sink in (sets, sets[::-1]):
        binding = session.io_binding()
        binding.bind_ortvalue_input("token", token)
        binding.bind_ortvalue_output(last, result)
        for name in state:
            binding.bind_ortvalue_input(name, source[name])
            binding.bind_ortvalue_output(name + "'", sink[name])
        bindings.append(binding)
    turn = 0

    def frame():
        nonlocal turn
        session.run_with_iobinding(bindings[turn])
        turn ^= 1
        return result

    return frame


def agree(blocks, path):
    """The ONNX graph is the PyTorch model: relative difference after three frames, both fp32."""
    first, second = torch_frame(blocks), onnx_frame(path)
    token = torch.from_numpy(np.random.default_rng(1).standard_normal((1, D_MODEL)).astype(np.float32))
    first.__closure__[first.__code__.co_freevars.index("token")].cell_contents = token
    for _ in range(3):
        a, b = first().numpy(), second().numpy()
    return float(np.abs(a - b).max() / np.abs(a).max())


def worldline(binary):
    command = [binary, "bench", "physics", "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worldline", required=True, help="the release build of the command")
    arguments = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(1)
    blocks = nn.ModuleList(Block() for _ in range(LAYERS)).eval()

    before = worldline(arguments.worldline)
    frames = {"pytorch fp32": time_frames(torch_frame(blocks))}
    dynamic = torch.ao.quantization.quantize_dynamic(blocks, {nn.Linear}, dtype=torch.qint8)
    frames["pytorch int8 dynamic"] = time_frames(torch_frame(dynamic))
    with tempfile.TemporaryDirectory() as folder:
        exact, small = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(onnx_model(blocks), exact)
        quantize_dynamic(exact, small, weight_type=QuantType.QInt8)
        difference = agree(blocks, exact)
        frames["onnxruntime fp32"] = time_frames(onnx_frame(exact))
        frames["onnxruntime int8 dynamic"] = time_frames(onnx_frame(small))
    after = worldline(arguments.worldline)
    report = {
        "shape": {"d_model": D_MODEL, "layers": LAYERS, "d_state": D_STATE},
        "versions": {"torch": torch.__version__, "onnxruntime": ort.__version__},
        "onnx_against_pytorch_fp32_relative": difference,
        "frames": frames,
        "worldline_before": before,
        "worldline_after": after,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
