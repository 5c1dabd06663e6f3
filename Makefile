# `make train` and `make test` each set up .venv by themselves and then do their job.
PYTHON ?= python3
BIN    := .venv/bin
ARGS   ?=

.PHONY: train test lint clean help

help:
	@echo "make train [ARGS=\"--steps 200000\"]   train PPO on Atari Pong, evaluate it and record a game"
	@echo "make test                            lint, types and the whole test suite"

train: .venv/installed
	$(BIN)/asyncrl train ppo PongNoFrameskip-v4 --steps 1000000 $(ARGS)

test: lint
	SDL_VIDEODRIVER=dummy $(BIN)/python -m pytest $(ARGS)

lint: .venv/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("asyncrl needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[atari,classic]'
	@touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[atari,box2d,classic,data,minigrid,procgen,vizdoom,test]'
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[mario]' || echo "no Super Mario: nes-py is built by a C++ compiler; its tests are skipped"
	@touch $@

clean:
	rm -rf .venv
