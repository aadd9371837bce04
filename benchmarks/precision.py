"""Accuracy with bf16 products beside float32: the same trainings, seed by seed, on real data.

spikewright's own environment will do; --data-dir says where MNIST is
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import torch

import spikewright as sw
from spikewright import provenance
from spikewright.storage import read_json, write_json

RESULT = Path(__file__).parent / "results" / "precision.json"


def accuracy(args: argparse.Namespace, data: sw.Dataset, seed: int, precision: str) -> dict[str, float]:
    """Test accuracies in %, of the weights that validation chose and of the last epoch's."""
    settings = {"epochs": args.epochs, "steps": args.steps, "arch": args.arch, "batch": args.batch}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        sw.train(args.method, data, seed=seed, precision=precision, validation=0.05, out=run, **settings)
        summary = read_json(run / "summary.json")
    return {
        "test_accuracy": 100 * summary["test_accuracy"],
        "last_epoch": 100 * summary["test_accuracy_last_epoch"],
        "train_images_per_second": summary["train_images_per_second"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", default="surrogate")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--data-dir")
    parser.add_argument("--arch", default="15C5-P2-40C5-P2-300-10")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    data = sw.load(args.data, data_dir=args.data_dir)
    runs = {
        precision: [accuracy(args, data, seed, precision) for seed in range(args.seeds)]
        for precision in ("float32", "bf16")
    }
    means = {p: statistics.mean(run["test_accuracy"] for run in found) for p, found in runs.items()}
    record = {
        "setting": {k: v for k, v in vars(args).items() if k != "data_dir"},
        "runs": runs,
        "mean_test_accuracy": means,
        "bf16_minus_float32": means["bf16"] - means["float32"],
        **provenance.stamp(torch.device("cpu")),
    }
    RESULT.parent.mkdir(exist_ok=True)
    write_json(RESULT, record)
    print(f"{args.method} on {args.data}, {args.epochs} epochs, {args.seeds} seeds")
    for precision, found in runs.items():
        each = ", ".join(f"{run['test_accuracy']:.2f}" for run in found)
        print(f"{precision:>8}: {means[precision]:.2f} %  ({each})")
    print(f"bf16 - float32: {record['bf16_minus_float32']:+.2f} points")


if __name__ == "__main__":
    main()
