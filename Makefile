SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# A Go that is older than go.mod asks for fetches the one it needs.
export GOTOOLCHAIN := auto
export GOBIN       := $(CURDIR)/bin

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -X main.version=$(VERSION)

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0
GRPC_PLUGIN := google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.0
PROTOS      := models/patchbay.proto plugins/admin/adminpb/admin.proto

# Arguments for go test: make test TESTFLAGS='-run TestX'
TESTFLAGS ?=

.PHONY: help build demo lab lab-down test test-vm bench chaos lint proto deps testdeps labdeps
# deps comes before what uses it.
.NOTPARALLEL:

help: ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 16

build: ## the program, as bin/patchbay
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/patchbay ./agent/cmd/patchbay

demo: $(if $(filter-out 1,$(NODES))$(BRIDGE),labdeps,deps) build ## a real connection on this machine, from nothing; DATAPLANE=vpp shows VPP's, NODES=2 a tunnel, BRIDGE=1 a bridge
	DATAPLANE=$(DATAPLANE) NODES=$(NODES) BRIDGE=$(BRIDGE) bin/patchbay demo

lab: labdeps build ## NODES nodes (3) in namespaces on this machine, to try things out; they stay up
	bin/patchbay lab up $(if $(NODES),--nodes $(NODES)) $(if $(DATAPLANE),--dataplane $(DATAPLANE))

lab-down: ## removes what make lab has made, also after it was killed
	bin/patchbay lab down

# Every part of the suite writes go test's JSON into one summary, which fails if one did. The
# integration tests are named first: they take longest, and mostly wait, so that the others run
# beside them. The card with SR-IOV takes part where make test-vm has fetched its machine.
test: testdeps build ## all tests, and what real parts they ran against
	go build -o bin/summary ./tests/summary
	{ go test -race -timeout 30m -json $(TESTFLAGS) ./tests ./... || true; \
	  (cd tests/nsm && go test -race -timeout 30m -json $(TESTFLAGS) ./...) || true; \
	  $(if $(TESTFLAGS),,PATCHBAY_TEST_VM=cached go test -count=1 -timeout 6m -json -run TestCards/interfaces ./tests/vm || true;) \
	} | bin/summary

test-vm: deps ## what needs /dev/vhost-net, every kind of tunnel or a card with SR-IOV, in machines in QEMU: minutes, and 700 MB of packages once
	PATCHBAY_TEST_VM=1 go test -count=1 -timeout 60m -v ./tests/vm

bench: labdeps build ## the speed of the engine and of requests, as ratios
	go test -run '^$$' -bench . -benchmem ./negotiation/... ./plugins/...
	go test -tags bench -count=1 -timeout 30m -v ./tests/bench
	PATCHBAY_TEST_VM=1 go test -count=1 -timeout 15m -run 'TestCards/speed' -v ./tests/vm

chaos: testdeps build ## the agent, and VPP where it is found, killed 300 times under a churn of requests
	PATCHBAY_TEST_KILLS=300 go test -count=1 -timeout 60m -v -run 'Kill(s|ed)UnderChurn|EachKindOfCall' ./tests

lint: ## gofmt, go vet, staticcheck and the rules of the house
	@unformatted=$$(gofmt -l .); \
	  if [ -n "$$unformatted" ]; then echo "not formatted (run gofmt -w):" $$unformatted; exit 1; fi
	go vet ./... && go vet -tags bench ./tests/bench
	go install $(STATICCHECK)
	bin/staticcheck ./... && bin/staticcheck -tags bench ./tests/bench
	cd tests/nsm && go vet ./... && $(GOBIN)/staticcheck ./...
	go test ./tests/house

proto: ## the generated code, from the .proto files
	@command -v protoc >/dev/null || { echo "protoc is missing: apt-get install protobuf-compiler libprotobuf-dev"; exit 1; }
	go install google.golang.org/protobuf/cmd/protoc-gen-go
	go install $(GRPC_PLUGIN)
	PATH="$(GOBIN):$$PATH" protoc --go_out=. --go_opt=module=go.patchbay.dev \
	  --go-grpc_out=. --go-grpc_opt=module=go.patchbay.dev $(PROTOS)

deps:
	@tests/deps.sh

testdeps:
	@tests/deps.sh test

labdeps:
	@tests/deps.sh lab
