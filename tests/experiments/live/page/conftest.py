"""What every test of the page listens with."""

import pytest

from tests.helpers.live import small_engine


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    return small_engine(tmp_path_factory.mktemp("serve"))
