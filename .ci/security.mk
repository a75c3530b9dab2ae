# Checks of the supply chain and of the posture. Each tool is pinned, built once
# without cgo into the cache, and has a planted fault in `make security-selftest`.
GOVULNCHECK_VERSION := v1.6.0
GITLEAKS_VERSION := v8.30.1
SYFT_VERSION := v1.42.0
# gosec 2.29.0 and staticcheck 0.8.2 are the ones inside golangci-lint: one
# configuration and one way to write a reason at the line.
GOSEC_INSIDE := github.com/securego/gosec/v2	v2.29.0
STATICCHECK_INSIDE := honnef.co/go/tools	v0.8.2
# Tools from npm; node is needed for these alone.
SQUAWK := npx --yes squawk-cli@2.66.0
DBLINT := npx --yes --package=@postgres-language-server/cli@0.25.5 postgres-language-server
REDOCLY := npx --yes @redocly/cli@2.77.0

TOOLS := $(CARESPHERE_CACHE)/bin
GOVULNCHECK := $(TOOLS)/govulncheck-$(GOVULNCHECK_VERSION)/govulncheck
GITLEAKS := $(TOOLS)/gitleaks-$(GITLEAKS_VERSION)/gitleaks
SYFT := $(TOOLS)/syft-$(SYFT_VERSION)/syft
# A copy of the database of Go vulnerabilities, where there is one and no network.
VULNDB ?= $(realpath ../shared/vulndb)
VULN_FROM := $(if $(VULNDB),-db file://$(VULNDB))

.PHONY: security
security: vulnerabilities lint-security secrets ## known vulnerabilities, risky code, secrets in tree and history

.PHONY: vulnerabilities
vulnerabilities: $(GOVULNCHECK) ## fail on a known vulnerability that our code reaches; list the others
	$(GOVULNCHECK) $(VULN_FROM) -show verbose ./...

.PHONY: lint-security
lint-security: $(GOLANGCI) ## gosec and staticcheck, inside golangci-lint
	@go version -m $(GOLANGCI) | grep -q '$(GOSEC_INSIDE)' || { echo "golangci-lint holds another gosec than $(GOSEC_INSIDE)"; exit 1; }
	@go version -m $(GOLANGCI) | grep -q '$(STATICCHECK_INSIDE)' || { echo "golangci-lint holds another staticcheck than $(STATICCHECK_INSIDE)"; exit 1; }
	$(GOLANGCI) run --enable-only gosec,staticcheck $(PKG)

.PHONY: secrets
secrets: $(GITLEAKS) ## fail on a secret in the working tree or anywhere in the history
	$(GITLEAKS) dir . --config .gitleaks.toml --no-banner --redact --verbose
	$(GITLEAKS) git . --config .gitleaks.toml --no-banner --redact --verbose

.PHONY: sbom
sbom: build $(SYFT) ## write what the programs are made of to bin/ (SPDX and CycloneDX), and hold it against them
	$(SYFT) scan dir:bin --quiet --source-name caresphere -o spdx-json=bin/sbom.spdx.json -o cyclonedx-json=bin/sbom.cdx.json
	go run ./internal/testkit/cmd/bill bin bin/sbom.spdx.json bin/sbom.cdx.json

.PHONY: lint-sql
lint-sql: ## squawk on the migrations, dblint on the databases that they make
	.ci/squawk $(SQUAWK)
	CARESPHERE_DBLINT='$(DBLINT)' $(HARNESS) -- go test -tags dblint -count=1 -run TestSchemasPassTheLinter ./cmd/e2e

# A script of Debian's, not built here: apt-get install testssl.sh.
TESTSSL ?= $(or $(shell command -v testssl),$(shell command -v testssl.sh))
.PHONY: tls
tls: ## testssl.sh on the public listeners, and on one that it must find fault with
	@test -n '$(TESTSSL)' || { echo 'testssl.sh is not installed: apt-get install testssl.sh'; exit 1; }
	CARESPHERE_TESTSSL='$(TESTSSL)' $(HARNESS) -- go test -tags testssl -count=1 -v -timeout 60m -run TestTestsslFinds ./cmd/e2e

.PHONY: openapi
openapi: ## write docs/openapi from the programs' own descriptions
	CARESPHERE_WRITE_OPENAPI=1 go test -count=1 -run 'TestTheKeptDescription' ./cmd/controlplane ./dataplane/api

.PHONY: openapi-lint
openapi-lint: ## lint docs/openapi; a warning fails
	cd docs/openapi && $(REDOCLY) lint --extends recommended-strict controlplane.json operators.json dataplane.json

.PHONY: security-selftest
security-selftest: $(GOVULNCHECK) $(GITLEAKS) $(GOLANGCI) ## plant a fault for each check and see it turn red
	GOVULNCHECK='$(GOVULNCHECK) $(VULN_FROM)' GITLEAKS='$(GITLEAKS)' GOLANGCI='$(GOLANGCI)' SQUAWK='$(SQUAWK)' REDOCLY='$(REDOCLY)' .ci/security-selftest

$(GOVULNCHECK): MODULE := golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)
$(GITLEAKS): MODULE := github.com/zricethezav/gitleaks/v8@$(GITLEAKS_VERSION)
$(SYFT): MODULE := github.com/anchore/syft/cmd/syft@$(SYFT_VERSION)
$(GOVULNCHECK) $(GITLEAKS) $(SYFT):
	@mkdir -p $(@D)
	GOBIN=$(@D) GOFLAGS= CGO_ENABLED=0 go install $(MODULE)
