"""`import sanas_jax`: the names of a first hour."""

import ast
import subprocess
import sys
from importlib import import_module

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sanas_jax
from tests.helpers.places import ROOT

HOMES, MODULES = sanas_jax._HOMES, sanas_jax._MODULES
STUB = ROOT / "sanas_jax" / "__init__.pyi"


def run(code):
    """Run a program of its own."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted(set(HOMES) - {"forward"}))
def test_a_name_is_the_object_of_its_home(name):
    home = import_module(f"sanas_jax.{HOMES[name]}")
    assert getattr(sanas_jax, name) is getattr(home, name)
    assert home.__name__ != "sanas_jax"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_itself(name):
    assert getattr(sanas_jax, name) is import_module(f"sanas_jax.{name}")


def test_an_unknown_name_is_named():
    with pytest.raises(AttributeError, match="module 'sanas_jax' has no attribute 'forwards'"):
        _ = sanas_jax.forwards


def test_dir_and_all_list_the_names():
    assert set(sanas_jax.__all__) == {*HOMES, *MODULES}
    assert set(sanas_jax.__all__) <= set(dir(sanas_jax))


def test_stub_says_the_same():
    *imports, names = ast.parse(STUB.read_text(encoding="utf-8")).body[1:]
    stub = {alias.name: node.module for node in imports for alias in node.names}
    homes = {name: f"sanas_jax.{home}" for name, home in HOMES.items()}
    assert stub == homes | dict.fromkeys(MODULES, "sanas_jax")
    assert ast.literal_eval(names.value) == sanas_jax.__all__


def test_types_are_shipped():
    assert (ROOT / "sanas_jax" / "py.typed").is_file()
    shipped = (ROOT / "setup.cfg").read_text().partition("[options.package_data]")[2].split("[")[0]
    assert {"py.typed", "__init__.pyi"} <= set(shipped.split())


def test_import_brings_no_jax():
    heavy = run("import sys, sanas_jax; dir(sanas_jax); print({'jax', 'flax'} & set(sys.modules))")
    assert heavy.strip() == "set()"


ORDERS = (
    "from sanas_jax import forward as name; from sanas_jax.forward import forward as function",
    "import sanas_jax.forward; name = sanas_jax.forward; function = sanas_jax.forward.forward",
    "from sanas_jax.rollout import unroll; from sanas_jax import forward as name; "
    "from sanas_jax.forward import forward as function",
    "from sanas_jax import init, forward as name; import sanas_jax.forward as module; "
    "function = module.forward",
)


@pytest.mark.parametrize("order", ORDERS)
def test_forward_is_function_and_module_in_every_order(order):
    run(
        f"{order}\n"
        "import inspect, jax, sanas_jax\n"
        "net = sanas_jax.spaces.kws_cnn('cnn-tstride2', shortcuts=True, num_classes=3)\n"
        "shapes = jax.eval_shape(lambda key: sanas_jax.init(net, key), jax.random.key(0))\n"
        "gates, x = jax.numpy.ones(len(net.edges)), jax.numpy.ones((2, *net.input_shape))\n"
        "for each in (name, function, sanas_jax.forward):\n"
        "    out = jax.eval_shape(lambda p: each(net, p, gates, x), shapes)\n"
        "    assert out.logits.shape == (2, 3)\n"
    )


@pytest.mark.parametrize("names", [("forward", "training"), ("training", "forward")])
def test_modules_stay_importable_in_every_order(names):
    imports = "".join(f"import sanas_jax.{name}\n" for name in names)
    run(
        "import sanas_jax\nsanas_jax.Net, sanas_jax.forward\n"
        f"{imports}"
        "from sanas_jax.forward import forward, init\n"
        "assert sanas_jax.forward.init is init is sanas_jax.init\n"
        "assert sanas_jax.training.make_update is sanas_jax.make_update\n"
    )


def test_forward_of_the_face_jits_and_vmaps():
    net = sanas_jax.Net(
        (3,),
        (sanas_jax.Layer("in"), sanas_jax.Layer("out")),
        (
            sanas_jax.Edge("wide", "in", "out", sanas_jax.blocks.Dense(2)),
            sanas_jax.Edge("other", "in", "out", sanas_jax.blocks.Dense(2)),
        ),
        output="out",
        features="out",
    )
    params = sanas_jax.init(net, jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (4, 3))
    gates = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    each = jax.vmap(sanas_jax.forward, in_axes=(None, None, 0, None))
    batched = jax.jit(each, static_argnums=0)(net, params, gates, x).logits
    for row, one in zip(gates, batched, strict=True):
        np.testing.assert_allclose(one, sanas_jax.forward(net, params, row, x).logits, rtol=1e-6)
