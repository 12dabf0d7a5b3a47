# Hearth's commands. `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo up down status logs test lint format lock clean

ENVS := $(or $(HEARTH_ENVS),.envs)
LOCAL := $(ENVS)/platform/bin/python -m hearth_local
DEV := $(ENVS)/dev/bin
SETUP := python3 deploy/local/setup_envs.py
ENGINES := training vllm infinity models

help: ## list the commands
	@sed -n 's/^\([a-z]*\):.*## /  make \1|/p' $(MAKEFILE_LIST) | column -t -s '|'

setup: ## make the environments (done by the others as they need them)
	@$(SETUP) platform $(ENGINES)

demo: ## run the main job, from a model to two answers side by side
	@began=$$(date +%s); $(SETUP) platform $(ENGINES) && HEARTH_DEMO_BEGAN=$$began $(ENVS)/platform/bin/python -m hearth_local.demo

up: setup ## start the platform
	@$(LOCAL) up

down: ## stop it
	@$(LOCAL) down

status: ## how each program is
	@$(LOCAL) status

logs: ## the end of the logs: make logs, make logs P=gateway
	@$(LOCAL) logs $(P)

test: ## every test, the main job on real engines included
	@$(SETUP) dev $(ENGINES)
	@$(DEV)/python -m pytest $(T)

lint: ## ruff and mypy --strict
	@$(SETUP) dev
	@$(DEV)/ruff check . && $(DEV)/ruff format --check . && $(DEV)/mypy libs/*/hearth_* services/*/hearth_* deploy/local/hearth_local

format: ## let ruff format
	@$(SETUP) dev
	@$(DEV)/ruff check --fix . ; $(DEV)/ruff format .

lock: ## compile the locks anew from their .in files
	@$(SETUP) dev
	@bash deploy/local/lock.sh

clean: down ## remove environments and data
	rm -rf $(ENVS) .hearth
