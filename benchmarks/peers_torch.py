"""What peers.py runs in the environment of the PyTorch packages, one case a process.

    python benchmarks/peers_torch.py --task '["measure_times", {...}]'

Needs PyTorch, and `dnc` from PyPI or a checkout of pytorch-ntm; not TensorFlow, not
keras_sam. The sizes come from peers.py.
"""

import argparse
import json
import resource
import sys
import time

import torch
from measuring import GIB, marginal_ms, peak_bytes, summary


def dnc_layer(kind, words, sizes):
    import dnc

    sparse = {} if kind == "DNC" else {"sparse_reads": sizes["reads_per_head"]}
    layer = getattr(dnc, kind)(
        sizes["features"],
        sizes["units"],
        num_hidden_layers=1,
        nr_cells=words,
        cell_size=sizes["word_size"],
        read_heads=sizes["read_heads"],
        **sparse,
    )
    return lambda inputs: layer(inputs, reset_experience=True)[0]


def ntm_layer(words, sizes):
    from ntm.controller import LSTMController
    from ntm.head import NTMReadHead, NTMWriteHead
    from ntm.memory import NTMMemory
    from ntm.ntm import NTM

    features, units, heads = sizes["features"], sizes["units"], sizes["read_heads"]
    memory = NTMMemory(words, sizes["word_size"])
    controller = LSTMController(features + heads * sizes["word_size"], units, 1)
    heads = [NTMReadHead(memory, units) for _ in range(heads)]
    heads = torch.nn.ModuleList([NTMWriteHead(memory, units), *heads])
    layer = NTM(features, units, controller, memory, heads)

    def run(inputs):
        memory.reset(len(inputs))
        state, outputs = layer.create_new_state(len(inputs)), []
        for step in inputs.unbind(1):
            output, state = layer(step, state)
            outputs.append(output)
        return torch.stack(outputs, 1)

    return run


def training_step(kind, words, sizes):
    """Seconds of a forward and a backward pass, gradients of inputs and weights."""
    make = ntm_layer if kind == "NTM" else lambda *rest: dnc_layer(kind, *rest)
    layer = make(words, sizes)

    def step(length):
        inputs = torch.randn(1, length, sizes["features"], requires_grad=True)
        start = time.perf_counter()
        layer(inputs).square().sum().backward()
        return time.perf_counter() - start

    return step


def measure_times(kind, words, lengths, rounds, sizes):
    """With one thread and with all in turns; the better of the two."""
    step = training_step(kind, words, sizes)
    found = {1: [], torch.get_num_threads(): []}
    step(lengths[0])
    for _ in range(rounds):
        for threads, times in found.items():
            torch.set_num_threads(threads)
            times.append(marginal_ms([step(length) for length in lengths], lengths))
    threads = min(found, key=lambda each: summary(found[each])["median"])
    return {
        "ms_per_step": summary(found[threads]),
        "rounds": found[threads],
        "threads": threads,
        "torch": torch.__version__,
    }


def measure_peak(kind, words, length, sizes):
    training_step(kind, words, sizes)(length)
    return {"peak_bytes": peak_bytes()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", required=True, type=json.loads)
    name, arguments = parser.parse_args().task
    checkout, max_gib = arguments.pop("checkout"), arguments.pop("max_gib")
    if checkout:
        sys.path.insert(0, checkout)
    # An error that can be reported, instead of a machine without memory.
    resource.setrlimit(resource.RLIMIT_DATA, (int(max_gib * GIB),) * 2)
    try:
        result = {"measure_times": measure_times, "measure_peak": measure_peak}[name](
            **arguments
        )
    except Exception as error:  # Whatever the package raises is a result.
        result = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:200]}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
