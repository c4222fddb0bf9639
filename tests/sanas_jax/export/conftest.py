"""Networks as compiled C, once for all files."""

import pytest

from tests.helpers.compiled_c import library_of
from tests.helpers.nets_in_c import NETS, front_of, model_of


@pytest.fixture(scope="package", params=NETS)
def case(request, tmp_path_factory):
    """Model, parameters, front end, and the compiled network."""
    model, params = model_of(NETS[request.param]())
    folder = tmp_path_factory.mktemp("native")
    front = front_of(model.net)
    return model, params, front, library_of(model, params, front, folder=folder)
