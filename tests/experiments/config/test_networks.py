"""Networks by a config's words."""

import pytest

from experiments.config.networks import library_net
from experiments.config.schema import ModelConfig
from sanas_jax.costs import edge_macs


def macs(**fields):
    return edge_macs(library_net(ModelConfig(family="separable", **fields), 12))


def test_maps_are_widths_of_the_separable_networks_wide_chain():
    plain, wide = macs(), macs(maps=(128, 256, 256, 320, 320))
    assert macs(maps=(64, 128, 128, 160, 160)) == plain
    assert wide["block_1"] > 3 * plain["block_1"]
    assert {name: wide[name] for name in ("glance", "slim_0", "slim_1")} == {
        name: plain[name] for name in ("glance", "slim_0", "slim_1")
    }


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"maps": (64, 128)}, "'model.maps': expected 5 numbers for separable, got .64, 128."),
        ({"depth": 3}, "'model.depth'"),
    ],
)
def test_sizes_that_it_has_not_are_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        macs(**fields)
