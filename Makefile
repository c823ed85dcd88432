# What people run. Every target can be run twice.
CARGO := $(shell command -v cargo || echo $(HOME)/.cargo/bin/cargo)
IMAGES := target/images
NODES ?= 1
PREFIX ?= /usr/local

.PHONY: demo demo-down test lint bench soak images install build

## demo: a fleet on this machine, running the shop of examples/repo
demo:
	@.ci/install demo
	@CARGO=$(CARGO) IMAGES=$(IMAGES) NODES=$(NODES) examples/demo.sh

## demo-down: leaves nothing of it
demo-down:
	@if [ -x target/release/windlass ]; then examples/demo.sh down; else echo "there is no demo"; fi

## test: everything, with real parts; needs root
test:
	@.ci/install test
	@$(CARGO) fmt --check
	@$(CARGO) clippy --quiet --all-targets -- -D warnings
	@.ci/count $(CARGO) test --lib --bins --tests

## bench: one table of figures, beside what Docker, the kernel or Git cost by themselves
bench:
	@.ci/install test
	@WINDLASS_WRITE_DOCS=1 $(CARGO) bench --quiet --bench figures

## soak: the simulation with ever new seeds, until stopped
soak:
	@$(CARGO) build --release --quiet
	@target/release/windlass simulate --seed 1000 --seeds 0

## images: the images of the example shop
images: $(IMAGES)/.made

$(IMAGES)/.made: examples/images/build.sh $(wildcard examples/images/*)
	@.ci/install demo
	@examples/images/build.sh $(IMAGES)
	@touch $@

build:
	@.ci/install build
	@$(CARGO) build --release

## install: the program, its unit and a configuration to fill in
install: build
	install -D -m 755 target/release/windlass $(DESTDIR)$(PREFIX)/bin/windlass
	install -D -m 644 systemd/windlass.service $(DESTDIR)/etc/systemd/system/windlass.service
	@if [ -e $(DESTDIR)/etc/windlass/agent.yaml ]; then \
		echo "$(DESTDIR)/etc/windlass/agent.yaml stays as it is"; \
	else \
		install -D -m 600 systemd/agent.yaml $(DESTDIR)/etc/windlass/agent.yaml; \
		echo "next: windlass init --desired URL --state URL, or windlass join TOKEN"; \
	fi
