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


def test_a_price_or_budget_is_asked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Told(TrainedModel):
        conditioned = True  # type: ignore[assignment]

    train = SimpleNamespace(cost_weight_range=(0.03, 2.0))
    info = SimpleNamespace(
        config=SimpleNamespace(model=SimpleNamespace(conditioned=True), train=train)
    )

    def read_model(folder: Path, _: str, budgets: list[float], **__: object) -> TrainedModel:
        return Told(folder, info, None, 150, {}, [1 / each for each in budgets])  # type: ignore[arg-type]

    monkeypatch.setattr(trained, "read_model", read_model)
    values = SimpleNamespace(workdir=[tmp_path], pretrained=[], checkpoint="latest", trust=False)
    for values.budgets, values.cost_weights, prices in (
        ([], ["0.1", "0.5", "0.10"], [0.1, 0.5]),
        (["2", "4", "2.0"], [], [0.5, 0.25]),
    ):
        (model,), _ = read_models(values)  # type: ignore[arg-type]
        assert model.prices == prices


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
