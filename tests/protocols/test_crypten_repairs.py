import gc
import subprocess
import sys

import pytest

from protocols.crypten_repairs import RefusingGenerators, guarded_randomness, import_crypten
from protocols.errors import CommitteeError


def test_importing_the_module_changes_nothing_and_stock_crypten_fails_where_the_repair_is_needed():
    """One process, since an import cannot be undone. The control: without the repair the import fails."""
    program = """
import sys
import protocols.crypten_repairs as repairs
assert "torch" not in sys.modules and "crypten" not in sys.modules
name = "torch.onnx._internal.registration"
try:
    import crypten
except ModuleNotFoundError as error:
    assert error.name == name, error
    for module in [m for m in sys.modules if m.split(".")[0] == "crypten"]:
        del sys.modules[module]
    assert name not in sys.modules
    crypten = repairs.import_crypten()
    assert repairs.import_crypten() is crypten
    assert sys.modules[name] is sys.modules["torch.onnx._internal.torchscript_exporter.registration"]
print(crypten.__version__)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "0.4.1"


@pytest.fixture(autouse=True)
def stock_parts():
    """A committee that an earlier test dropped without leaving it keeps the guard up until it is collected."""
    gc.collect()
    assert not isinstance(import_crypten().generators, RefusingGenerators)


def test_every_draw_of_crypten_is_refused_while_guarded_and_works_again_afterwards():
    crypten = import_crypten()
    from crypten.common.rng import generate_kbit_random_tensor, generate_random_ring_element

    draws = [
        lambda: generate_random_ring_element((3,)),
        lambda: generate_kbit_random_tensor((3,), bitlength=5),
        lambda: crypten.mpc.primitives.ArithmeticSharedTensor.PRSS((3,)),
        lambda: crypten.mpc.primitives.ArithmeticSharedTensor.PRZS((3,)),
        lambda: crypten.mpc.primitives.BinarySharedTensor.PRZS((3,)),
        lambda: crypten.mpc.primitives.BinarySharedTensor.rand(3),
        crypten._setup_prng,
        lambda: crypten.mpc.get_default_provider().square((3,)),
    ]
    stock = (
        crypten.generators,
        crypten.mpc.get_default_provider,
        crypten.mpc.primitives.ArithmeticSharedTensor.PRZS,
    )
    with guarded_randomness():
        assert isinstance(crypten.generators, RefusingGenerators)
        with guarded_randomness():
            pass
        for draw in draws:
            with pytest.raises(CommitteeError):
                draw()
    assert stock == (
        crypten.generators,
        crypten.mpc.get_default_provider,
        crypten.mpc.primitives.ArithmeticSharedTensor.PRZS,
    )


def test_the_guard_holds_until_the_last_block_ends():
    crypten = import_crypten()
    stock = crypten.generators
    first, second = guarded_randomness(), guarded_randomness()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert crypten.generators is not stock
    second.__exit__(None, None, None)
    assert crypten.generators is stock
