"""Models that are evaluated together have names of their own."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.flags.many_models import read_models
from experiments.reporting.streams.roc import rocs_of
from experiments.reporting.streams.tables import summary_table
from experiments.runs import trained
from experiments.runs.stored_results import StreamResult
from experiments.runs.trained import TrainedModel
from tests.helpers.runs import write_evaluation, write_run


def test_runs_of_one_folder_name_are_no_streams_of_one_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_model(folder: Path, *_: object, **__: object) -> TrainedModel:
        return TrainedModel(folder, None, None, 150, {}, [])  # type: ignore[arg-type]

    monkeypatch.setattr(trained, "read_model", read_model)
    folders = [tmp_path / "run", tmp_path / "old" / "run"]
    values = SimpleNamespace(workdir=folders, pretrained=[], budgets=[], cost_weights=[])
    values.checkpoint, values.trust = "latest", False
    models, _ = read_models(values)  # type: ignore[arg-type]
    names = [model.name for model in models]
    assert names == [f"{tmp_path.name}/run", "old/run"]
    like = write_evaluation(tmp_path / "run", write_run(tmp_path / "run"))
    results = [StreamResult.from_json(like | {"workdir": name}) for name in names]
    assert "mean of" not in summary_table(results)
    assert [roc.run for roc in rocs_of(results, [])] == names
