"""The model's file: every tensor is compared bit for bit, and every byte between them counts."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, save

from securefl.audit import verify
from securefl.run_folder import RunFolder


def fault(run: RunFolder) -> str:
    """The check that fails, as one line; empty if everything holds."""
    found = verify(run.path).fault
    return f"{found.name}: {found.says}" if found else ""


def test_the_model_of_the_chain_holds(auditors: RunFolder) -> None:
    assert fault(auditors) == ""
    auditors.model_file.write_bytes(save(load(auditors.model_file.read_bytes()), {"round": "4"}))
    assert fault(auditors) == ""


@pytest.mark.parametrize("change", ["one bit", "minus zero", "dtype", "shape", "missing", "extra", "renamed"])
def test_a_changed_tensor_fails(auditors: RunFolder, change: str) -> None:
    tensors = load(auditors.model_file.read_bytes())
    name = sorted(tensors)[-1]
    tensor = tensors[name]
    match change:
        case "one bit":
            tensor.view(torch.int32).view(-1)[3] ^= 1
        case "minus zero":
            tensor.view(-1)[0] = -0.0
        case "dtype":
            tensors[name] = tensor.double()
        case "shape":
            tensors[name] = tensor.reshape(-1)
        case "missing":
            del tensors[name]
        case "extra":
            tensors["z"] = torch.zeros(1)
        case "renamed":
            tensors["z"] = tensors.pop(name)
    auditors.model_file.write_bytes(save(tensors, {"round": "4"}))
    line = fault(auditors)
    assert line.startswith(
        "model.safetensors: model.safetensors does not hold the model that the outcomes give"
    )


@pytest.mark.parametrize("metadata", [None, {}, {"round": "04"}, {"round": "x"}, {"round": "4", "by": "me"}])
def test_another_header_fails(auditors: RunFolder, metadata: dict[str, str] | None) -> None:
    auditors.model_file.write_bytes(save(load(auditors.model_file.read_bytes()), metadata))
    assert fault(auditors).startswith("model.safetensors: ")


@pytest.mark.parametrize("round_", ["3", "5"])
def test_a_model_of_another_round_fails(auditors: RunFolder, round_: str) -> None:
    auditors.model_file.write_bytes(save(load(auditors.model_file.read_bytes()), {"round": round_}))
    assert (
        fault(auditors)
        == f"model.safetensors: model.safetensors is of round {round_}, the chain ends with 4."
    )


def test_bytes_that_mean_nothing_fail_too(auditors: RunFolder) -> None:
    # The same tensors and metadata to every reader, in other bytes.
    data = auditors.model_file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length])).encode()
    header += b" " * (-len(header) % 8)
    auditors.model_file.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    with safe_open(auditors.model_file, "pt") as file:
        assert file.metadata() == {"round": "4"}
    assert fault(auditors) == "model.safetensors: model.safetensors has bytes that no run writes."
