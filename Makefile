# Hearth's commands. `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo up down status logs doctor backup restore bundle compose-up compose-down compose-test test chaos fuzz bench-gateway bench-data bench-scale bench-train lint format lock clean

ENVS := $(or $(HEARTH_ENVS),.envs)
LIGHT := $(ENVS)/platform/bin/python
HEARTH := $(ENVS)/platform/bin/hearth
DEV := $(ENVS)/dev/bin
SETUP := python3 deploy/local/setup_envs.py
ENGINES := training $(filter ray,$(HEARTH_TRAINING_EXECUTOR)) vllm infinity models
COMPOSE := python3 deploy/docker/compose.py
NOTHING := Nothing is set up here yet; `make up` does that

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make the environments (done by the others as they need them)
	@$(SETUP) --gateway platform $(ENGINES)

demo: ## run the main job, from a model to two answers side by side
	@began=$$(date +%s); $(SETUP) --gateway platform $(ENGINES) && HEARTH_DEMO_BEGAN=$$began $(LIGHT) -m hearth_local.demo

up: setup ## start the platform, or what is missing of it
	@$(HEARTH) up

down: ## stop it
	@test ! -x $(HEARTH) || $(HEARTH) down

status: ## programs, deployments and jobs
	@test -x $(HEARTH) || { echo '$(NOTHING)'; exit 3; }
	@$(HEARTH) status

logs: ## the end of the logs: make logs, make logs P=gateway, make logs P="-f gateway"
	@test -x $(HEARTH) || { echo '$(NOTHING)'; exit 1; }
	@$(HEARTH) logs $(P)

doctor: setup ## what is wrong with this machine and its platform, and what mends it
	@$(HEARTH) doctor

backup: setup ## save all data: make backup [TO=file.tar] [MODELS=no]
	@$(HEARTH) backup "$(or $(TO),hearth-$$(date -u +%Y%m%dT%H%M%SZ).tar)" $(if $(filter no,$(MODELS)),--no-models)

restore: setup ## put it back into an empty HEARTH_HOME: make restore FROM=file.tar
	@test -n "$(FROM)" || { echo 'say which backup: make restore FROM=file.tar'; exit 2; }
	@$(HEARTH) restore "$(FROM)"

bundle: ## all that a machine without a network needs, in one file: make bundle [TO=file.tar] [MODELS="org/name ..."] [GPU=yes] [IMAGES=yes]
	@$(SETUP) platform
	@$(LIGHT) deploy/local/make_bundle.py "$(or $(TO),hearth-bundle-$$(date -u +%Y%m%d).tar)" \
		$(if $(GPU),$(if $(filter no,$(GPU)),--no-gpu,--gpu)) $(if $(filter-out no,$(IMAGES)),--images) $(foreach model,$(MODELS),--model "$(model)")

compose-up: ## start it in containers: build what is missing, make .env with new passwords at first
	@python3 deploy/docker/dotenv.py && mkdir -p imports
	@$(COMPOSE) up -d

compose-down: ## stop the containers; the volumes stay
	@$(COMPOSE) down

test: ## every test, the gateway's twice (as source, compiled), the main job on real engines included; make test [T=libs] [LONG=yes]
	@$(SETUP) --gateway dev clients helm ray $(ENGINES)
	@$(if $(T),,HEARTH_COMPILED= $(DEV)/python -m pytest -q services/gateway)
	@$(DEV)/python -m pytest $(if $(LONG),--long) $(T)

compose-test: ## build the images, and in containers the main job, Prometheus and faults (20 min, needs a Docker Engine)
	@$(SETUP) dev training models
	@$(DEV)/python -m pytest --compose -o timeout_func_only=true tests/e2e/test_main_job.py tests/e2e/test_observability.py tests/compose

bench-gateway: ## the gateway beside nginx, vllm-router and a plain proxy (15 min, needs cc and two cores)
	@$(SETUP) --gateway dev
	@$(DEV)/python -m tests.bench.gateway

bench-data: ## datasets beside the bare S3 client: a 5 GiB file, ten at once (20 min, 15 GB of disk)
	@$(SETUP) dev
	@$(DEV)/python -m tests.bench.data

bench-scale: ## what each part costs as there is more of it: jobs, nodes, adapters, datasets (5 min, needs cc and two cores)
	@$(SETUP) dev
	@$(DEV)/python -m tests.bench.scale

bench-train: ## fine-tunes beside the same TRL script started by hand (15 min): make bench-train [MODEL=folder] [ROUNDS=3]
	@$(SETUP) dev training
	@$(DEV)/python -m tests.bench.train $(if $(MODEL),--model "$(MODEL)") $(if $(ROUNDS),--rounds $(ROUNDS))

chaos: ## random faults on a real platform: make chaos SEED=7 FAULTS=50 [ONLY=download,queued] [SWAPS=20] [DISK=3000]
	@$(SETUP) dev $(ENGINES)
	@$(DEV)/python -m tests.chaos.run $(if $(SEED),--seed $(SEED)) $(if $(FAULTS),--faults $(FAULTS)) $(if $(ONLY),--only "$(ONLY)") $(if $(SWAPS),--swaps $(SWAPS)) $(if $(DISK),--disk $(DISK)) $(if $(REPORT),--report "$(REPORT)")

fuzz: ## schemathesis over the OpenAPI document of a running platform, with another seed each time
	@$(SETUP) dev clients $(ENGINES)
	@HEARTH_FUZZ_SEED=$${SEED:-$$RANDOM} HEARTH_FUZZ_SECONDS=600 \
		$(DEV)/python -m pytest tests/contract/test_fuzz.py

lint: ## ruff and mypy --strict
	@$(SETUP) dev
	@$(DEV)/ruff check . && $(DEV)/ruff format --check .
	@$(DEV)/mypy libs/*/hearth_* services/*/hearth_* deploy/local/hearth_local services/gateway/compile.py deploy/docker/*.py
	@cd deploy/local && $(abspath $(DEV))/mypy --config-file ../../pyproject.toml setup_envs.py pip_settings.py bundled.py bundle_images.py make_bundle.py

format: ## let ruff format
	@$(SETUP) dev
	@$(DEV)/ruff check --fix . ; $(DEV)/ruff format .

lock: ## compile the locks anew from their .in files
	@$(SETUP) dev
	@python3 deploy/local/pip_settings.py bash deploy/local/lock.sh

clean: down ## remove the environments and caches; the data stays
	rm -rf $(ENVS) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@test ! -e $(or $(HEARTH_HOME),.hearth) || echo 'The data is in $(or $(HEARTH_HOME),.hearth); remove that folder yourself if you want it gone'
