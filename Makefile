# `make demo`, `make test` and others. All set up what they need in $(VENV).

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
RUNS ?= runs/demo
BENCH ?=
DATA ?=
SCALE ?= small
PAPER ?=
PYTEST ?=
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

# The demo's training: everything on, then one network that is told its price, from its weights.
# Runs are about a tenth as long as the configs': averages are shorter, the controller learns faster.
CONFIGS := experiments/configs
STATIC_STEPS := 600
NOISE := --set data.snr_range_db=0,45
STATIC := $(NOISE) --set train.steps=$(STATIC_STEPS) --set train.eval_every=200 \
	--set train.warmup_steps=100 --set train.average_decay=0.99
SANAS_STEPS := 300
SANAS := $(NOISE) --set train.steps=$(SANAS_STEPS) --set train.eval_every=100 \
	--set train.warmup_steps=20 --set train.average_decay=0.97 \
	--set train.learning_rate=3e-3 --set train.controller_learning_rate=1e-2 \
	--set train.controller_delay_steps=30 --set train.cost_weight_range=0.03,1
PRICES := 0.03,0.1,0.3,1
TRAINED := --workdir $(RUNS)/static --workdir $(RUNS)/sanas

.PHONY: demo paper test test-slow lint rooms bench clean

demo: $(RUNS)/report.html

# The paper's table and figures: make paper DATA=speech_commands [SCALE=full] [PAPER="--seeds 3"]
paper: $(STAMP)
	$(PY) -m experiments.paper --scale $(SCALE) $(if $(DATA),--data "$(DATA)") $(PAPER)

test: $(STAMP)
	$(PY) -m pytest -n auto --dist loadfile -m "not slow" $(PYTEST)

test-slow: $(STAMP)
	$(PY) -m pytest -n auto --dist loadfile -m slow

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# The rooms of the code, top floor first, and what they import; nothing needs to be installed.
rooms:
	@$(PYTHON) -m tests.helpers.rooms

# make bench BENCH="--json new.json --compare old.json"
bench: $(STAMP)
	$(PY) -m experiments.benchmarks.all $(BENCH)

clean:
	rm -rf $(RUNS)

$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: expected Python >= 3.11; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --disable-pip-version-check -e '.[synth,onnx,test,lint]'
	touch $@

$(RUNS)/corpus: | $(STAMP)
	$(PY) -m data_prep.synthesize --out $@ --seed 0

$(RUNS)/cache: | $(RUNS)/corpus
	$(PY) -m data_prep.prepare --data $(RUNS)/corpus --out $@

$(RUNS)/stream.wav: | $(RUNS)/cache
	$(PY) -m data_prep.make_stream --data $(RUNS)/cache --split testing --minutes 10 --seed 0 --out $@

$(RUNS)/validation.wav: | $(RUNS)/cache
	$(PY) -m data_prep.make_stream --data $(RUNS)/cache --split validation --minutes 10 --seed 100 --out $@

# A run that was stopped goes on from its checkpoint; `.done` says that it is complete.
$(RUNS)/static/.done: | $(RUNS)/cache
	$(PY) -m experiments.launch --config $(CONFIGS)/kws_modern.py --data $(RUNS)/cache \
		--workdir $(@D) $(STATIC)
	touch $@

$(RUNS)/sanas/.done: | $(RUNS)/static/.done
	$(PY) -m experiments.launch --config $(CONFIGS)/kws_modern_sanas.py --data $(RUNS)/cache \
		--workdir $(@D) --init_from $(RUNS)/static $(SANAS)
	touch $@

$(RUNS)/sanas/detector.json: $(RUNS)/static/.done $(RUNS)/sanas/.done | $(RUNS)/validation.wav
	$(PY) -m experiments.calibrate $(TRAINED) --stream $(RUNS)/validation.wav

$(RUNS)/curve.json: $(RUNS)/sanas/detector.json | $(RUNS)/stream.wav
	$(PY) -m experiments.evaluate $(TRAINED) --cost_weights=$(PRICES) --detector=calibrated \
		--stream $(RUNS)/stream.wav --curve $@

$(RUNS)/report.html: $(RUNS)/curve.json
	$(PY) -m experiments.report $(TRAINED) --out $(RUNS)
