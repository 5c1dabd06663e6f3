# Every target sets up .venv by itself, once.
PYTHON  ?= python3
ARGS    ?=
WORKERS ?= 2

BIN    := .venv/bin
PYTEST := SDL_VIDEODRIVER=dummy $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: help train test test-fast test-part lint settings docs spelling clean

help:
	@echo "make train       train PPO on Atari Pong, evaluate it and record a game; ARGS=\"--steps 200000\" for a first look"
	@echo "make test        format, lint, types and all tests (15 to 30 minutes on two cores)"
	@echo "make test-fast   the tests that are not marked slow (a minute on two cores)"
	@echo "make test-part   some tests: ARGS=\"tests/test_lockstep.py -x\""
	@echo "make lint        format, lint and types"
	@echo "make docs        the documentation site, in site/; it needs no network and opens from disk: site/index.html"
	@echo "make spelling    codespell"
	@echo "make settings    write asyncrl/typed_settings.py after a setting has changed"
	@echo "make clean       remove .venv"
	@echo
	@echo "PYTHON=python3.13 chooses the interpreter of a new .venv, WORKERS=8 the number of test processes."

train: .venv/installed
	$(BIN)/asyncrl train ppo PongNoFrameskip-v4 --steps 1000000 $(ARGS)

test: lint
	$(PYTEST) $(ARGS)

test-fast: .venv/installed-test
	$(PYTEST) -m "not slow" $(ARGS)

test-part: .venv/installed-test
	$(PYTEST) $(ARGS)

lint: .venv/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

settings: .venv/installed
	$(BIN)/python tools/typed_settings.py

docs: .venv/installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

spelling: .venv/installed-test
	git ls-files | xargs $(BIN)/codespell

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("asyncrl needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[atari,classic,plot,watch]'
	@touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[atari,box2d,classic,data,docs,export,minigrid,mujoco,plot,procgen,ray,s3,share,tune,vizdoom,watch,test]'
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[mario]' || echo "Super Mario is not installed (nes-py needs a C++ compiler); its tests are skipped"
	@touch $@

clean:
	rm -rf .venv
