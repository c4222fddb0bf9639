# Two commands: `make demo` and `make test`. Both set up what they need in $(VENV).

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
RUNS ?= runs/demo
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

# The demo's training: a static network, then a sweep of SANAS over prices, all from its weights.
# Streams have 30 % unknown words, so they are drawn more often than in the authors' recipe.
CONFIG := experiments/configs/kws_small.py
MIX := --set data.unknown_fraction=0.4
STATIC_STEPS := 600
SANAS_STEPS := 300
PRICES := 1,1.6

.PHONY: demo test test-slow lint bench clean

demo: $(RUNS)/report.html

test: $(STAMP)
	$(PY) -m pytest -n auto -m "not slow"

test-slow: $(STAMP)
	$(PY) -m pytest -n auto -m slow

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(STAMP)
	$(PY) -m experiments.benchmarks.sweep
	$(PY) -m experiments.benchmarks.training_iteration

clean:
	rm -rf $(RUNS)

$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: expected Python >= 3.11; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --disable-pip-version-check -e '.[synth,test,lint]'
	touch $@

$(RUNS)/corpus: | $(STAMP)
	$(PY) -m data_prep.synthesize --out $@ --seed 0

$(RUNS)/cache: | $(RUNS)/corpus
	$(PY) -m data_prep.prepare --data $(RUNS)/corpus --out $@

$(RUNS)/stream.wav: | $(RUNS)/cache
	$(PY) -m data_prep.make_stream --data $(RUNS)/cache --split testing --minutes 10 --seed 0 --out $@

# A run that was stopped goes on from its checkpoint; `.done` says that it is complete.
$(RUNS)/static/.done: | $(RUNS)/cache
	$(PY) -m experiments.launch --config $(CONFIG) --data $(RUNS)/cache --workdir $(@D) \
		--set model.static=true --set train.steps=$(STATIC_STEPS) --set train.eval_every=200 $(MIX)
	touch $@

$(RUNS)/sanas/.done: | $(RUNS)/static/.done
	$(PY) -m experiments.sweep --config $(CONFIG) --data $(RUNS)/cache --workdir $(@D) \
		--init_from $(RUNS)/static --cost_weights=$(PRICES) --set train.steps=$(SANAS_STEPS) \
		--set train.eval_every=200 --set train.learning_rate=1e-2 $(MIX)
	touch $@

$(RUNS)/curve.json: $(RUNS)/static/.done $(RUNS)/sanas/.done | $(RUNS)/stream.wav
	$(PY) -m experiments.evaluate --workdir $(RUNS)/static --workdir $(RUNS)/sanas \
		--stream $(RUNS)/stream.wav --curve $@

$(RUNS)/report.html: $(RUNS)/curve.json
	$(PY) -m experiments.report --workdir $(RUNS)/static --workdir $(RUNS)/sanas --out $(RUNS)
