"""One summary as a run writes it."""

from typing import Any

import pytest


@pytest.fixture
def summary() -> dict[str, Any]:
    return {
        "method": "stbp", "dataset": "mnist", "arch": "15C5-P2-10", "seed": 0, "steps": 4, "epochs": 5,
        "test_accuracy": 0.9931, "test_accuracy_last_epoch": 0.9925, "validation_accuracy": 0.9940,
        "ties": 3, "accuracy_ties_right": 0.9935,
        "accuracy_by_step": [0.5, 0.9, 0.98, 0.9931], "params": 210740, "spikes_per_image": 2345.6,
        "synops_per_image": 12345.0, "macs_per_image": 678.0, "ann_macs_per_image": 23456.0,
        "energy_nj_per_image": 41.2, "ann_energy_nj_per_image": 20.6, "energy_table": "45nm",
        "energy_verdict": "By 45nm the SNN costs more than its ANN.", "rates": {"neuron1": 0.1, "neuron2": 0.0},
        "train_seconds": 192.0, "train_images_per_second": 1500.0, "infer_images_per_second": 1234.5,
        "peak_memory_mb": 1213.0, "device": "cpu", "hardware": "2 cores", "precision": "fp32", "version": "0.1.0",
        "commit": "0123456789abcdef", "command": "spikewright train stbp --data mnist", "train_samples": 55000,
        "note": "",
    }  # fmt: skip
