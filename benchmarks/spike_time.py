"""Training on spike times: images a second of whole epochs on real MNIST, beside the S4NN authors' public NumPy code.

spikewright's own environment will do; --data-dir says where MNIST is
"""

import argparse
import tempfile
from pathlib import Path

import torch

import spikewright as sw
from spikewright import provenance
from spikewright.storage import read_json, write_json

RESULT = Path(__file__).parent / "results" / "spike_time.json"
AUTHORS = 81.0  # images/s of S4NN's published code, 784-400-10 at 256 steps, measured on two cores
RUNS = {"s4nn": "400-10", "mostafa": "800-10"}


def speed(method: str, data: sw.Dataset, epochs: int) -> list[float]:
    """Images a second of every epoch after the first, which finds or makes the compiled loops."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        sw.train(method, data, arch=RUNS[method], epochs=epochs + 1, validation=0.0, out=run, precision="float32")
        lines = (run / "metrics.jsonl").read_text().splitlines()
        (Path(folder) / "lines.json").write_text(f"[{','.join(lines)}]")
        return [float(line["images_per_second"]) for line in read_json(Path(folder) / "lines.json")][1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir")
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    data = sw.load("mnist", data_dir=args.data_dir)
    found = {method: sorted(speed(method, data, args.epochs)) for method in RUNS}
    middle = {method: speeds[len(speeds) // 2] for method, speeds in found.items()}
    record = {
        "epochs": args.epochs,
        "images_per_second": found,
        "seconds_per_epoch": {method: len(data.train) / s for method, s in middle.items()},
        "s4nn_authors_images_per_second": AUTHORS,
        "s4nn_times_the_authors": middle["s4nn"] / AUTHORS,
        "threads": torch.get_num_threads(),
        **provenance.stamp(torch.device("cpu")),
    }
    RESULT.parent.mkdir(exist_ok=True)
    write_json(RESULT, record)
    for method, s in middle.items():
        print(f"{method:>8} 784-{RUNS[method]}: {s:,.0f} images/s, {len(data.train) / s:.0f} s an epoch")
    print(f"s4nn: {middle['s4nn'] / AUTHORS:.1f} times the authors' code")


if __name__ == "__main__":
    main()
