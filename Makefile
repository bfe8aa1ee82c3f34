# SPDX-License-Identifier: GPL-2.0-only
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup figures test lab explorer bench lint clean environment glossary browser compiler

bin := .venv/bin

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1|\2/p' Makefile | while IFS='|' read -r command what; do \
	    printf '%-18s%s\n' "$$command" "$$what"; done

figures: browser setup ## run every notebook, draw the paper figures, write the HTML pages
	@$(bin)/workbench figures

test: setup ## run all tests
	@scripts/need browser || echo "Tests that need a browser are skipped."
	@$(bin)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lab: setup ## open JupyterLab on the first notebook, on this machine only
	@$(bin)/jupyter lab --ip=127.0.0.1 --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb \
	    --LabApp.news_url=None $(if $(filter 0,$(shell id -u)),--allow-root)

explorer: setup ## open the explorer: any device and patch state, without code, on this machine only
	@JUPYTER_PATH=workbench/view/explorer $(bin)/voila notebooks/explorer/explorer.ipynb --template=offline \
	    --Voila.ip=127.0.0.1 --token \
	    --Voila.kernel_websocket_connection_class=workbench.view.websocket.PromptConnection

bench: compiler setup ## measure the engine against C and the machine's limits, store the results
	@failed=0; $(bin)/workbench cost --measure --update || failed=1; \
	$(bin)/workbench bench --update || failed=1; \
	scripts/need browser && $(bin)/python -m benchmarks.map_latency --update || failed=1; exit $$failed

lint: setup ## check style, types and the rules of the house
	@$(bin)/ruff check
	@$(bin)/ruff format --check
	@$(bin)/mypy
	@$(bin)/python -m pytest -q tests/test_house_rules.py

setup: ## make the locked environment in .venv (every other command does it too)
	@scripts/setup

environment: setup ## write environment.yml anew from pyproject.toml
	@$(bin)/python scripts/environment

glossary: setup ## explain the words of data/glossary.json where each notebook first says them
	@$(bin)/python scripts/glossary

clean: ## remove all that make has made, the environment too
	rm -rf .venv out .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

browser compiler:
	@scripts/need $@
