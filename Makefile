# `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help setup build demo test package slack bench anomaly pictures fmt audit

TARGET := $(or $(CARGO_TARGET_DIR),target)

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

setup: ## Install what the demo and the tests need (apt packages; the rest goes below target/ and .venv)
	@scripts/setup.sh test

build: ## Build target/debug/datapulse
	@scripts/setup.sh build
	cargo build --locked

demo: ## Start a PostgreSQL pair under load, a Redis pair, Prometheus and datapulse, and a page to break it; Ctrl-C stops it all
	@scripts/setup.sh demo
	cargo build --locked
	@exec $(TARGET)/debug/datapulse demo

test: ## Everything that has to hold: format, lints, tests, licences, rules; prints the time of each step
	@scripts/test.sh

package: ## Build the release and make target/package/datapulse_VERSION_ARCH.deb of it
	@scripts/setup.sh build
	cargo build --release --locked
	@scripts/package.sh $(TARGET)/release/datapulse $(TARGET)/package

slack: ## Measure alerts to Slack: 200 alerts, 1,000 at once, a bad line, 30 kills; takes minutes
	@scripts/setup.sh test
	cargo test --locked -p datapulse --test it slack:: -- --ignored --nocapture --test-threads 1

bench: ## Measure the encoders against the prometheus crate, and the readers of logs against pt-query-digest and Node.js
	@scripts/setup.sh bench
	cargo bench --locked -p metrics
	cargo bench --locked -p datapulse-digest
	cargo bench --locked -p datapulse --bench logs

anomaly: ## Measure the seasonal rules on made-up worlds and hold them against Prometheus (docs/anomaly.md); ten minutes
	@scripts/setup.sh demo
	@scripts/anomaly/run.sh

pictures: ## Draw the dashboards from a demo of their own (docs/dashboards.md), and look at every page in a browser (docs/status-page.md); ten minutes
	@scripts/setup.sh pictures
	cargo test --locked -p datapulse --test it dashboards::pictures:: -- --ignored --nocapture
	cargo build --locked
	@scripts/pictures/pages.sh $(TARGET)/debug/datapulse

fmt: ## Format the code
	cargo fmt --all

audit: ## Look for known weaknesses in the dependencies (reads their public database)
	@scripts/setup.sh test
	target/tools/bin/cargo-deny check
