# Waxseal. `make help` lists the goals.
GO ?= go
BIN := bin
PROGRAMS := server connector agent
GOFLAGS_BUILD := -trimpath -buildvcs=false

.PHONY: help build demo test lint lint-certificates bench fuzz check

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

check:
	@command -v $(GO) >/dev/null || { echo "error: Go is not installed; hint: get 1.26 or newer from https://go.dev/dl" >&2; exit 1; }
	@command -v git >/dev/null || { echo "error: git is not installed; hint: apt-get install git" >&2; exit 1; }
	@v=$$($(GO) env GOVERSION | sed 's/^go//'); major=$${v%%.*}; rest=$${v#*.}; minor=$${rest%%.*}; minor=$${minor%%[!0-9]*}; \
	if [ "$$major" -lt 1 ] || { [ "$$major" -eq 1 ] && [ "$$minor" -lt 26 ]; }; then \
	  echo "error: Go $$v is too old; hint: get 1.26 or newer from https://go.dev/dl" >&2; exit 1; fi

build: check ## the four programs, in bin/
	@mkdir -p $(BIN)/parts
	@$(GO) build $(GOFLAGS_BUILD) -o $(BIN)/parts/ ./server ./connector ./agent ./waxctl
	@for p in $(PROGRAMS); do mv $(BIN)/parts/$$p $(BIN)/waxseal-$$p || exit 1; done
	@mv $(BIN)/parts/waxctl $(BIN)/waxctl && rmdir $(BIN)/parts

demo: build ## plays the whole story on this machine, in under two minutes
	@$(BIN)/waxctl demo

test: check ## every test; PostgreSQL and peer programs are used where they are installed
	$(GO) test -timeout 15m ./...

lint: check ## gofmt, go vet, and staticcheck where it is installed
	@bad=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$bad" ] || { echo "error: not gofmt-ed: $$bad" >&2; exit 1; }
	$(GO) vet ./...
	@if command -v staticcheck >/dev/null; then staticcheck ./...; \
	else echo "staticcheck is not installed; hint: go install honnef.co/go/tools/cmd/staticcheck@latest" >&2; fi

lint-certificates: check ## zlint looks at what the built-in CA makes; it is fetched, and is no part of the module
	cd tests/lint && $(GO) vet . && $(GO) test -count=1 .

bench: check ## figures, each as a ratio to something measured in the same run
	$(GO) test -run '^$$' -bench . -benchtime 2s ./tests/...

fuzz: check ## every fuzz target for a minute
	@for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p 2>/dev/null | grep '^Fuzz'); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime 60s -fuzzminimizetime 10x $$p || exit 1; done; done
