# Everything that a developer or a build machine does here. What a target needs beyond Go, it says.

.DEFAULT_GOAL := help
.PHONY: help run test fuzz chaos simulation shapes check bench bench-choosing build generate format vet staticcheck generated modules

TOOL := go tool -modfile=tools/go.mod

# The release that `fanfare version` and the User-Agent name: the newest tag. Without a tag it is what
# internal/version says.
VERSION ?= $(patsubst v%,%,$(shell git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null))
LDFLAGS := $(if $(VERSION),-X github.com/fanfare-webhooks/fanfare/internal/version.Number=$(VERSION))
# Where git does not answer, Go would refuse to build rather than leave the commit out.
BUILDVCS := $(shell git rev-parse HEAD >/dev/null 2>&1 || echo -buildvcs=false)

# The packages that `make test` tests.
PKG ?= ./...
# More flags for `run`, `bench` and `test`: make run ARGS='--listen 127.0.0.1:9000'
ARGS ?=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## run everything on this machine: Postgres, a demo account, the server (ARGS='--help')
	@tools/postgres.sh
	@exec bin/fanfare dev $(ARGS)

# -count=1: the tests talk to Postgres and other programs, of which Go's cache knows nothing.
test: ## test everything with the race detector, on a real Postgres (PKG=./retry/... ARGS='-run X')
	@printf '#include <stdlib.h>\n' | $$(go env CC) -E - >/dev/null 2>&1 || { \
		echo "make test: the race detector needs a C compiler and libc's headers ($$(go env CC) does not work)" >&2; \
		echo "  Debian, Ubuntu   apt-get install gcc libc6-dev" >&2; \
		echo "  macOS            xcode-select --install" >&2; \
		exit 1; }
	@tools/postgres.sh
	@CGO_ENABLED=1 $(TOOL) gotestsum --format pkgname --format-hide-empty-pkg -- -race -shuffle=on -count=1 $(ARGS) $(PKG)
	@$(if $(filter ./...,$(PKG)),tools/fuzz.sh)

fuzz: ## run every fuzz target for a while (FUZZTIME=1m)
	@FUZZTIME=$(FUZZTIME) tools/fuzz.sh

# How long `fuzz` gives each target; `test` gives it a few seconds.
FUZZTIME ?= 1m

# Which lanes `chaos` runs, and whether at their full length.
RUN ?=
LONG ?=
# How many lives `simulation` simulates.
SEEDS ?= 10000
# How many made-up bodies `shapes` writes.
BODIES ?= 100000

# The lanes measure: one after the other, and without the race detector.
chaos: ## prove what is promised by breaking things, and that each proof can fail (RUN=C1, LONG=1, LAB_REPORT=DIR; see docs/reliability.md)
	@tools/postgres.sh
	@go vet -tags chaos ./internal/lab
	@$(if $(RUN),,$(MAKE) --no-print-directory simulation shapes)
	@LONG=$(LONG) go test -tags chaos -count=1 -v -timeout 2h -run 'Test(Chaos|Controls)/^$(RUN)' ./internal/lab

simulation: ## live ten thousand random lives of nodes in virtual time, and find the bugs that are planted (SEEDS=100000)
	SIM_SEEDS=$(SEEDS) go test -count=1 -timeout 2h -run 'TestSimulation$$' ./dispatcher
	go test -count=1 -timeout 1h -tags weakened -run TestSimulationFindsPlantedBugs ./dispatcher

shapes: ## hold a hundred thousand made-up bodies against what Node.js writes (BODIES=1000000)
	SHAPE_BODIES=$(BODIES) go test -count=1 -v -timeout 1h -run 'TestECMAScriptIsWhatNodeWrites$$' ./internal/shape

check: format vet staticcheck generated modules ## everything that can be said about the code without running it
	@echo "check: good"

bench: build ## run the standard set of loads on this very build, compare with docs/benchmarks.md (ARGS='--only open-100'); then bench-choosing
	@tools/postgres.sh
	@bin/fanfare bench standard $(ARGS)
	@$(if $(ARGS),,$(MAKE) --no-print-directory bench-choosing)

bench-choosing: ## measure matching and the registry with up to a million webhooks, two nodes and a stream of changes
	@tools/postgres.sh
	go test -run '^$$' -bench 'Match|Update|Memory' -count=1 ./registry
	go test -tags chaos -count=1 -v -timeout 1h -run 'TestChaos/^F6$$' ./internal/lab

build: ## build bin/fanfare
	CGO_ENABLED=0 go build -trimpath $(BUILDVCS) -ldflags '$(LDFLAGS)' -o bin/fanfare ./cmd/fanfare

generate: ## make the generated files anew
	@tools/postgres.sh
	go generate ./...

# What follows are the parts of check.

SOURCES := find . \( -name .git -o -name node_modules -o -path ./bin -o -path ./.cache \) -prune -o -type f

format:
	@bad=$$($(SOURCES) -name '*.go' -print0 | xargs -0 $(TOOL) gofumpt -l) || exit 1; \
	[ -z "$$bad" ] || { echo "not formatted as gofumpt does (go tool -modfile=tools/go.mod gofumpt -w .):"; echo "$$bad"; exit 1; } >&2

vet:
	@go vet ./...

# ST1005: an error may begin with a name, such as Postgres.
staticcheck:
	@$(TOOL) staticcheck -checks inherit,-ST1005 ./...

# Whatever generating changes was not current.
generated:
	@tools/postgres.sh
	@state=$$(mktemp -d) && trap 'rm -rf "$$state"' EXIT && \
	$(SOURCES) -exec cksum {} + | sort -k 3 >"$$state/before" && \
	go generate ./... && \
	$(SOURCES) -exec cksum {} + | sort -k 3 >"$$state/after" || exit 1; \
	diff "$$state/before" "$$state/after" >"$$state/diff" || { \
		echo "go generate changed these files; look at them and commit them:"; sed -n 's/^> [0-9]* [0-9]* /  /p' "$$state/diff"; exit 1; } >&2

modules:
	@go mod tidy -diff && go mod verify >/dev/null
	@cd tools && go mod tidy -diff && go mod verify >/dev/null
