.DEFAULT_GOAL := help
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@latest

.PHONY: console help build test race lint verify bench bench-hot bench-allocs bench-compare faults campaign budget-campaign backfill-campaign fuzz vuln deploy-check

help: ## show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-17s %s\n", $$1, $$2}'

build: ## build the four programs into bin/
	go build -o bin/ ./cmd/...

test: ## run every test (under 10 minutes on 2 cores)
	go test -timeout 20m ./...

race: ## run every test under the race detector
	go test -race -timeout 20m ./...

lint: ## gofmt, go vet (of the modules in bench and deploy/check, too), staticcheck
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt would change:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	go vet -tags campaign ./internal/e2e
	go run $(STATICCHECK) ./...
	cd bench && go vet ./...
	cd deploy/check && go vet ./...

verify: lint bench-allocs ## lint, that go.mod is tidy, and how often the hot functions allocate
	go mod tidy -diff
	cd bench && go mod tidy -diff && go vet .

ROUNDS ?= 4
MESSAGES ?= 30000
bench: ## the transform beside the broker's limit, the naive loop and Watermill (ROUNDS=4 MESSAGES=30000 ARGS=)
	cd bench && go build -mod=mod -o ../bin/bench . && ../bin/bench -rounds $(ROUNDS) -n $(MESSAGES) $(ARGS)

bench-hot: ## run the benchmarks of the hot functions
	go test -run '^$$' -bench . -benchmem ./...

ALLOCS := allocations.out
HOT := ./transform ./sink/plan
bench-allocs: ## how often each hot function allocates, against bench/allocations.txt
	@go test -run '^$$' -bench '^BenchmarkHot' -benchmem -benchtime 5000x $(HOT) > $(ALLOCS) || { cat $(ALLOCS); rm -f $(ALLOCS); exit 1; }
	@awk -f bench/allocations.awk bench/allocations.txt $(ALLOCS); rc=$$?; rm -f $(ALLOCS); exit $$rc

BENCHSTAT := golang.org/x/perf/cmd/benchstat@latest
BASE ?= HEAD~1
bench-compare: ## the hot functions now beside those of another revision (BASE=HEAD~1)
	@dir=$$(mktemp -d) && trap 'git worktree remove --force '$$dir/base'; rm -rf '$$dir EXIT && git worktree add -q --detach $$dir/base $(BASE) && \
	(cd $$dir/base && go test -run '^$$' -bench '^BenchmarkHot' -benchmem -count 6 $(HOT) > $$dir/base.txt); \
	go test -run '^$$' -bench '^BenchmarkHot' -benchmem -count 6 $(HOT) > $$dir/here.txt && go run $(BENCHSTAT) $$dir/base.txt $$dir/here.txt

SEED ?= 7
faults: ## one run with every fault of the simulators on (SEED=N)
	go test -count=1 -tags campaign -run TestFaults -timeout 10m ./internal/e2e -seed $(SEED)

SEEDS ?= 1..50
JOBS ?= 2
campaign: ## play many seeds of causeway dev with webhook faults (SEEDS=1..50 JOBS=2)
	go test -tags campaign -count=1 -timeout 0 -v -run '^TestCampaign$$' ./internal/e2e -seeds $(SEEDS) -jobs $(JOBS)

DURATION ?= 2m
budget-campaign: ## six processes at the limits of both simulators, killed and frozen (SEED=N DURATION=2m)
	go test -count=1 -timeout 0 -v -run '^TestOneBudget$$' ./internal/clients -seed $(SEED) -duration $(DURATION)

CONTACTS ?= 20000
backfill-campaign: ## a backfill that uses all calls there are, and live changes meanwhile (CONTACTS=N SEED=N)
	go test -count=1 -tags campaign -timeout 60m -v -run '^TestBackfillAtTheLimit$$' ./internal/e2e -contacts $(CONTACTS) -seed $(SEED)

SHOTS ?=
console: ## every page of the console in Chromium, light and dark, checked with axe-core (SHOTS=DIR keeps screenshots)
	go test -count=1 -v -timeout 20m -run '^(TestInBrowser|TestMany)$$' ./internal/console -axe -many 100000 -screenshots "$(abspath $(SHOTS))"

.PHONY: shots
shots: ## take the screenshots of docs/console.md anew
	go test -count=1 -timeout 20m -run '^TestInBrowser$$' ./internal/console -documented "$(abspath docs/screenshots)"

.PHONY: chaos verify-clean
chaos: ## kill, freeze, cut off and slow the programs, the broker and both systems; then the judge and the checker (SEED=N DURATION=2m)
	go test -count=1 -tags campaign -timeout 0 -v -run '^TestChaos$$' ./internal/e2e -chaos-seed $(SEED) -chaos-for $(DURATION)

OPERATIONS ?= 1000000
verify-clean: ## nothing is to be said about a clean history (SEED=N OPERATIONS=1000000)
	go test -count=1 -timeout 30m -v -run '^TestClean$$' ./internal/check -seed $(SEED) -operations $(OPERATIONS)

fuzz: ## fuzz each decoder that faces the outside for 10 s
	go test -run '^$$' -fuzz FuzzParse -fuzztime 10s ./streams
	go test -run '^$$' -fuzz FuzzRead -fuzztime 10s ./ingest/ghl
	go test -run '^$$' -fuzz FuzzRead -fuzztime 10s ./ingest/novi
	go test -run '^$$' -fuzz FuzzVerify -fuzztime 10s ./ingest/ghl
	go test -run '^$$' -fuzz FuzzVerify -fuzztime 10s ./ingest/novi
	go test -run '^$$' -fuzz FuzzAnswer -fuzztime 10s ./ingest/ghl
	go test -run '^$$' -fuzz FuzzAnswer -fuzztime 10s ./ingest/novi
	go test -run '^$$' -fuzz FuzzShow -fuzztime 10s ./internal/mapping
	go test -run '^$$' -fuzz FuzzDecode -fuzztime 10s ./schemas/observation
	go test -run '^$$' -fuzz FuzzParse -fuzztime 10s ./schemas/envelope

deploy-check: ## Helm chart, compose file, backup and restore, with the libraries of those who read them
	cd deploy/check && go test -count=1 ./...

vuln: ## look for known vulnerabilities
	go run $(GOVULNCHECK) ./...
