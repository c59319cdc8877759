"""PyTorch on a graph of the benchmark's: `torch_peer.py FILES BATCH SIDE THREADS`.

Answers each line on standard input, `infer` or `gradient`, with the milliseconds one took. Norms are
folded into the convolutions before them, as torch.jit and torch.compile would.
"""

import json
import sys
import time

import torch
import torch.nn.functional as F

files, batch, side, threads = sys.argv[1], *map(int, sys.argv[2:5])
torch.set_num_threads(threads)
graph = json.load(open(files + ".graph.json"))
data = torch.from_file(files + ".graph.bin", size=sum(torch.Size(w["shape"]).numel() for w in graph["weights"]))
weights = {}
for w in graph["weights"]:
    start = w["offset"] // 4
    weights[w["name"]] = data[start : start + torch.Size(w["shape"]).numel()].reshape(w["shape"]).clone()


def conv(node, x, weight, bias=None):
    return F.conv2d(x, weight, bias, node["ints"]["strides"], node["ints"]["pads"][0])


def pool(node, x):
    ints = node["ints"]
    return F.max_pool2d(x, ints["kernel_shape"], ints["strides"], ints["pads"][0])


DOES = {
    "Conv": conv,
    "BatchNormalization": lambda n, x, g, b, m, v: F.batch_norm(x, m, v, g, b, eps=n["floats"]["epsilon"]),
    "Relu": lambda n, x: F.relu(x),
    "Add": lambda n, a, b: a + b,
    "Sub": lambda n, a, b: a - b,
    "Mul": lambda n, a, b: a * b,
    "Div": lambda n, a, b: a / b,
    "Sqrt": lambda n, x: torch.sqrt(x),
    "Concat": lambda n, *xs: torch.cat(xs, 1),
    "MaxPool": pool,
    "GlobalAveragePool": lambda n, x: x.mean((2, 3), keepdim=True),
    "Flatten": lambda n, x: x.flatten(1),
    "Gemm": lambda n, x, w, b: F.linear(x, w, b),
}


def folded(nodes):
    """Convolutions with the norms that follow them."""
    steps = []
    for node in nodes:
        last = steps[-1] if steps else None
        if node["op"] == "BatchNormalization" and last and last["output"] == node["inputs"][0]:
            gain, bias, mean, variance = (weights[name] for name in node["inputs"][1:])
            scale = gain / torch.sqrt(variance + node["floats"]["epsilon"])
            weight, shift = node["output"] + ".weight", node["output"] + ".bias"
            weights[weight] = weights[last["inputs"][1]] * scale[:, None, None, None]
            weights[shift] = bias - mean * scale
            steps[-1] = {**last, "inputs": [last["inputs"][0], weight, shift], "output": node["output"]}
        else:
            steps.append(node)
    return steps


STEPS = folded(graph["nodes"])


def forward(pixels):
    made = {"pixels": pixels}
    for step in STEPS:
        inputs = [made[n] if n in made else weights[n] for n in step["inputs"]]
        made[step["output"]] = DOES[step["op"]](step, *inputs)
    return made["logits"]


PIXELS = (torch.arange(batch * 3 * side * side) % 251 / 251.0).reshape(batch, 3, side, side)
for line in sys.stdin:
    start = time.perf_counter()
    if line.strip() == "gradient":
        x = PIXELS.clone().requires_grad_()
        forward(x).sum().backward()
    else:
        with torch.inference_mode():
            forward(PIXELS.clone())
    print((time.perf_counter() - start) * 1e3, flush=True)
