# The commands of this repository; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GOLANGCI_VERSION := v2.15.0
SQLC_VERSION := v1.31.1

# Built tools are kept outside the repository.
CARESPHERE_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/caresphere
export CARESPHERE_CACHE

# Programs, tests and linters share what was compiled: the flag makes packages of their own.
export GOFLAGS := $(strip $(GOFLAGS) -trimpath)

GOLANGCI := $(CARESPHERE_CACHE)/bin/golangci-lint-$(GOLANGCI_VERSION)/golangci-lint
SQLC := $(CARESPHERE_CACHE)/bin/sqlc-$(SQLC_VERSION)/sqlc
HARNESS := go run ./internal/testkit/cmd/harness
# What make bench measures; docs/benchmarks.md says what it gave.
BENCH ?= ./dataplane/bench ./controlplane/provisioning ./internal/audit/... ./internal/phi ./dataplane/access ./dataplane/router
# One package, one test: make test PKG=./internal/pg ARGS='-run TestOpen -v'
PKG ?= ./...
ARGS ?=

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

.PHONY: build
build: ## compile every program into bin/
	@mkdir -p bin
	go build -o bin/ ./cmd/...

.PHONY: run
run: build ## run the whole platform here until Ctrl-C (STACK=full: with Vault, S3 and stripe-mock)
	@exec bin/caresphere up

# A run of everything ends with the figures of the proofs, each of which must be there.
WHOLE := $(if $(filter ./...,$(PKG)),$(if $(ARGS),,whole))
.PHONY: test
test: ## run all tests against real servers, started once
	$(HARNESS) $(if $(WHOLE),-tools) -- $(if $(WHOLE),go run ./internal/testkit/cmd/prove -- )go test -timeout 40m $(ARGS) $(PKG)

# AREA=attacks,faults proves less; PROVE=nightly tries much more and takes hours.
.PHONY: prove
prove: build ## run the proofs on a fresh stack: a line a figure, 1 on any surprise
	CARESPHERE_PROVE=$(PROVE) $(HARNESS) -tools -- go run ./internal/testkit/cmd/prove -json bin/proof.json $(if $(AREA),-area $(AREA))
	$(if $(filter nightly,$(PROVE)),$(if $(AREA),,$(MAKE) fuzz FUZZTIME=5m))

FUZZTIME ?= 10s
.PHONY: fuzz
fuzz: ## run each fuzz target of the code for a while (FUZZTIME=10s)
	$(HARNESS) -- .ci/fuzz $(FUZZTIME)

.PHONY: bench
bench: ## measure the hot paths
	$(HARNESS) -- go test -p 1 -timeout 40m -run '^$$' -bench . $(ARGS) $(BENCH)

# How many tenants to measure at, ascending; docs/scale.md says what it gave. With a folder
# in CARESPHERE_SCALE_KEEP the tenants stay, and the next run goes on with them.
SIZES ?= 10,1000
.PHONY: scale
scale: ## measure a stack as its tenants grow (SIZES=10,1000,10000: hours)
	CARESPHERE_SCALE=$(SIZES) CARESPHERE_SCALE_FILE=$(CURDIR)/bin/scale.json $(HARNESS) -- go test -v -timeout 12h -run '^$$' -bench Scale -benchtime 1x $(ARGS) ./cmd/e2e/scale

.PHONY: lint
lint: $(GOLANGCI) ## check the rules of the code
	$(GOLANGCI) run --allow-parallel-runners $(PKG)

.PHONY: generate
generate: $(SQLC) ## write the generated code anew
	$(SQLC) generate

.PHONY: verify
verify: $(SQLC) ## fail if the generated code is not current
	$(SQLC) diff

.PHONY: doctor
doctor: build ## say whether this machine can run a stack
	@bin/caresphere doctor

.PHONY: clean-state
clean-state: ## remove the local stack's databases, keys and mail
	@go run ./cmd/caresphere clean

$(GOLANGCI):
	@mkdir -p $(@D)
	GOBIN=$(@D) GOFLAGS= CGO_ENABLED=0 go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

$(SQLC):
	@mkdir -p $(@D)
	GOBIN=$(@D) GOFLAGS= CGO_ENABLED=0 go install github.com/sqlc-dev/sqlc/cmd/sqlc@$(SQLC_VERSION)

include .ci/security.mk
