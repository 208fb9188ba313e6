# Muster: everything a person types here. `make help` lists it; CONTRIBUTING.md explains it.
#
# A fresh machine needs Python 3.11 or newer (with venv) and make. The virtual environment is made once in .venv, from
# locked requirements with hashes; stamps in it say what has been done, so the second run installs nothing.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-print-directory

VENV := .venv
# The folder of `prometheus` and `promtool`.
PROMETHEUS ?= $(VENV)/prometheus/usr/bin
BIN := $(VENV)/bin
LOCK := requirements

# The interpreter for .venv; by default the newest that is installed.
PYTHON ?=
# Options for the targets that run something: make up ARGS="--command-port 8080", make test ARGS="-k relay".
ARGS ?=

# A Chromium of yours, for tests in a browser; else the first that is installed, else a headless build that is fetched.
CHROMIUM ?=
export CHROMIUM

# Use an installed interpreter, never download one.
export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

.PHONY: up
up: $(VENV)/.local ## Start the whole stack on this machine; Ctrl-C stops it (ARGS="-v" shows every log)
	@if [ -t 0 ]; then set -m; fi; $(BIN)/muster up $(ARGS)

.PHONY: logs
logs: $(VENV)/.local ## Show what the stack's processes write, until Ctrl-C (ARGS="relay -n 100")
	@$(BIN)/muster logs --follow $(ARGS)

.PHONY: reset
reset: $(VENV)/.local ## Delete the stack's data in .local, after asking
	@$(BIN)/muster reset $(ARGS)

.PHONY: demo
demo: $(VENV)/.local ## Register a few users and watch them travel through Kafka; needs `make up` in another terminal
	@$(BIN)/muster demo $(ARGS)

# A test run starts a hundred processes of Muster; in a shell that forbids bytecode each would compile everything anew.
# Half of the time tests wait for servers, so three at once keep two cores busy; each has its own servers.
TESTS_AT_ONCE ?= 3
# No test takes a minute on a quiet machine; one that hangs fails, with the stack of each thread, and the run goes on.
TEST_SECONDS ?= 480

# Without a browser, or Node, the tests run all the same, and the last lines say what was not tried; with CI set these fail.
.PHONY: test
test: $(VENV)/.dev $(VENV)/.client ## Run every test against real servers and in a real browser (TESTS_AT_ONCE=0: one after the other)
	@$(MAKE) --keep-going $(BROWSER) $(NODE_PACKAGES) || true
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest --numprocesses $(TESTS_AT_ONCE) --dist loadfile \
		--timeout $(TEST_SECONDS) $(ARGS)

BROWSER = $(VENV)/.browser $(VENV)/browser/axe $(if $(CHROMIUM),,$(VENV)/browser/chromium)

.PHONY: test-browser
test-browser: $(VENV)/.dev $(BROWSER) ## Run those in a browser alone, and have axe look at each page in every width, light and dark
	@EVERY_LOOK=1 $(BIN)/python -m pytest tests/browser $(ARGS)

.PHONY: pictures
pictures: $(VENV)/.dev $(BROWSER) ## Make pictures of every page of the console (.local/pictures; README's go to docs/pictures)
	@$(BIN)/python -m tests.browser.pictures

NODE_PACKAGES = $(VENV)/browser/asyncapi $(VENV)/browser/eventsource

.PHONY: test-node
test-node: $(VENV)/.dev $(NODE_PACKAGES) ## Have AsyncAPI's own parser read the document of the events, and npm's EventSource follow them
	@$(BIN)/python -m pytest -q tests/unit/events/test_asyncapi_parser.py tests/integration/event_api/test_foreign_client.py $(ARGS)

# RENDER=1 keeps what Helm renders, after a change of the chart.
RENDER ?=
.PHONY: test-alerts
test-alerts: $(VENV)/.dev $(PROMETHEUS)/prometheus $(PROMETHEUS)/promtool ## Have Prometheus try the alerts, and provoke each of them in a running Muster (writes docs/alerts.md)
	@$(BIN)/python -m tests.alerts --tools $(PROMETHEUS) --into docs/alerts.md $(ARGS)

.PHONY: plans
plans: $(VENV)/.dev ## Ask PostgreSQL how many rows each combination of filters and sort reads among a million users
	@PLAN_USERS=1000000 $(BIN)/python -m pytest -q -s tests/integration/query_api/users/test_plans.py $(ARGS)

.PHONY: test-issuer
test-issuer: $(VENV)/.dev ## Have a Keycloak issue tokens, change its keys and go away (fetches 177 MB once)
	@$(BIN)/python -m pytest -q -s tests/integration/access/issuer/keycloak_issues.py $(ARGS)

.PHONY: storm
storm: $(VENV)/.dev ## Kill relays and servers a thousand times and count what a consumer misses (ARGS="--kills 20 --late 20 --outage 10")
	@$(BIN)/python -m tests.integration.outbox.storm --into docs/storm.md $(ARGS)

KILLS ?= 200
.PHONY: resume
resume: $(VENV)/.dev ## Kill event APIs, their clients, relay and broker KILLS=200 times during 5,000 events, and count what clients miss
	@$(BIN)/python -m tests.integration.event_api.resume --kills $(KILLS) $(ARGS)

.PHONY: resume-copy
resume-copy: $(VENV)/.dev ## Kill all that brings changes to two copies KILLS=200 times, at 200 commands a second, and count what copies miss
	@PYTHONPATH=kit $(BIN)/python -m tests.integration.examples.copy_under_fire --kills $(KILLS) $(ARGS)

.PHONY: failover
failover: $(VENV)/.dev ## Kill each process, broker and server while clients work, and count what fails (ARGS="--into docs/failover.md")
	@$(BIN)/python -m pytest -q -n0 tests/integration/outbox/failover/three_brokers.py
	@$(BIN)/python -m tests.failover $(ARGS)

.PHONY: upgrade
upgrade: $(VENV)/.dev ## Roll the released version to this one and back while clients work (ARGS="--requests 20000 --into docs/upgrade.md")
	@$(BIN)/python -m tests.upgrade $(ARGS)

.PHONY: upgrade-containers
upgrade-containers: $(VENV)/.dev ## Walk the guide's upgrade in containers from an earlier commit, and count what clients miss (ARGS="--from COMMIT")
	@$(BIN)/python -m tests.upgrade.in_containers $(ARGS)

.PHONY: drill
drill: $(VENV)/.dev ## Lose the command side, the query side, both, and bring them back (ARGS="--users 1000000 --into docs/restore.md")
	@$(BIN)/python -m tests.restore $(ARGS)

# Ten minutes show every fault several times; the page says what was done and what held.
SECONDS ?= 600
SEED ?= 1

.PHONY: chaos
chaos: $(VENV)/.dev ## Strike a whole Muster with every fault for SECONDS=600, SEED=1, and write docs/reliability.md
	@$(BIN)/python -m tests.chaos --seconds $(SECONDS) --seed $(SEED) --into docs/reliability.md --keep .local/chaos $(ARGS)

.PHONY: chaos-short
chaos-short: $(VENV)/.dev ## A few minutes of it: five faults, and bugs planted in running processes, each of which must be caught by name
	@$(BIN)/python -m pytest -q tests/acceptance/running/promises_under_faults.py $(ARGS)

# Only these targets write to docs/benchmarks; ARGS="--quick --into .local/benchmarks" only tests the benchmarks.
BENCHMARKS := commands relay projections query end-to-end growth cold-start resets credentials overload subscribers console rivals
MEASURE = $(BIN)/python -m benchmarks

.PHONY: bench $(BENCHMARKS:%=bench-%)
bench: $(VENV)/.bench ## Measure everything into docs/benchmarks (80 minutes); bench-NAME one, profile-NAME its flame graph
	@$(MEASURE) all --into docs/benchmarks $(ARGS)

$(BENCHMARKS:%=bench-%): bench-%: $(VENV)/.bench
	@$(MEASURE) $* --into docs/benchmarks $(ARGS)

.PHONY: $(BENCHMARKS:%=profile-%)
$(BENCHMARKS:%=profile-%): profile-%: $(VENV)/.bench
	@$(MEASURE) $* --profile --rounds 1 $(ARGS)

.PHONY: check
check: $(VENV)/.dev contract ## Lint, format, types, import contracts, and the contract with subscribers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# A topic of the brokers in KAFKA_BOOTSTRAP_SERVERS.
LOG ?=

.PHONY: contract
contract: $(VENV)/.dev ## Say whether subscribers can go on reading; LOG=TOPIC whether this code reads every record there
	@$(BIN)/python -m contract $(if $(LOG),--log '$(LOG)') $(ARGS)

.PHONY: contract-release
contract-release: $(VENV)/.dev ## Note what this release promises subscribers, for the next ones to keep
	@$(BIN)/python -m contract --release

.PHONY: lock
lock: $(VENV)/.bootstrap ## Renew requirements/*.txt from pyproject.toml (LOCK_ARGS="--upgrade" for newer versions)
	$(COMPILE) --extra local --group dev pyproject.toml -o $(LOCK)/dev.txt
	$(COMPILE) --extra local --group dev --group bench -c $(LOCK)/dev.txt pyproject.toml -o $(LOCK)/bench.txt
	$(COMPILE) --extra local -c $(LOCK)/dev.txt pyproject.toml -o $(LOCK)/local.txt
	$(COMPILE) -c $(LOCK)/dev.txt pyproject.toml -o $(LOCK)/service.txt
	$(COMPILE) -c $(LOCK)/dev.txt $(LOCK)/bootstrap.in -o $(LOCK)/bootstrap.txt
	$(COMPILE) $(LOCK)/client.in -o $(LOCK)/client.txt
	$(COMPILE) $(LOCK)/browser.in -o $(LOCK)/browser.txt
	$(COMPILE) $(LOCK)/audit.in -o $(LOCK)/audit.txt

# A build that is to tell a finding (1) from a network that is away (2) calls the module: make exits with 2 for both.
.PHONY: audit
audit: $(VENV)/.audit ## Look for known vulnerabilities in all locked packages
	@$(BIN)/python -m deploy.audit $(ARGS)

SBOM = dist/muster-$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml).cdx.json

.PHONY: sbom
sbom: $(VENV)/.audit ## List what a process of Muster consists of, as CycloneDX, into dist, beside the wheel
	@mkdir -p dist
	@$(VENV)/audit/bin/cyclonedx-py requirements $(LOCK)/service.txt --pyproject pyproject.toml --mc-type application \
		--output-reproducible --output-file $(SBOM)
	@echo "Written to $(SBOM)"

.PHONY: licences
licences: $(VENV)/.dev ## Write down the licences of all that a process or the local stack consists of, after a change of the locks
	@$(BIN)/python -m deploy.licences

.PHONY: wheel
wheel: $(VENV)/.bootstrap ## Build both wheels into dist/: Muster (its extra `local` brings servers) and the subscribers' kit
	@$(BIN)/python -m hatchling build --target wheel --directory dist
	@cd kit && ../$(BIN)/python -m hatchling build --target wheel --directory ../dist

# A tag comes last, so that what could not be built has none. `git reset --hard HEAD~1` takes an unfinished release back.
VERSION ?=
.PHONY: release
release: $(VENV)/.dev $(VENV)/.audit ## Make a release of what is committed: VERSION=1.2.3; wheels and their list in dist, a commit, a tag
	@$(BIN)/python -m deploy.release require-ready '$(VERSION)'
	@$(MAKE) check
	@$(BIN)/python -m deploy.release write '$(VERSION)'
	@$(MAKE) contract-release
	@git add --all contract/released
	@git commit --quiet --all --message 'Release $(VERSION)'
	@rm -rf dist
	@$(MAKE) wheel sbom
	@git tag --annotate 'v$(VERSION)' --message 'Muster $(VERSION)'
	@echo "Released $(VERSION): look at it, then git push --follow-tags, and publish what is in dist."

.PHONY: clean
clean: ## Remove .venv and what tools cached; the local stack's data in .local stays
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	rm -rf console/vendor
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

LOCK_ARGS ?=
COMPILE = @$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header $(LOCK_ARGS)

# -- the virtual environment -------------------------------------------------------------------------------------------

# It is made anew when its interpreter is gone, or when the checkout was moved, since its scripts name their place.
define find_python
making='$(VENV).making'; \
if maker=$$(cat "$$making/pid" 2>/dev/null) && kill -0 "$$maker" 2>/dev/null; then \
	echo "Another make (process $$maker) is making $(VENV) here: let it finish, then run make again." >&2; exit 1; \
fi; \
if [ -x $(BIN)/python ] && $(BIN)/python -c '' 2>/dev/null \
	&& { [ ! -f $(VENV)/.place ] || [ "$$(cat $(VENV)/.place)" = "$$PWD" ]; }; then \
	[ -f $(VENV)/.place ] || printf %s "$$PWD" > $(VENV)/.place; exit 0; \
fi; \
found=''; \
for candidate in $(if $(PYTHON),'$(PYTHON)',python3.14 python3.13 python3.12 python3.11 python3 python); do \
	if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		found="$$candidate"; \
		if "$$candidate" -c 'import venv, ensurepip' 2>/dev/null; then break; fi; \
		lacking="$$candidate"; found=''; \
	fi; \
done; \
if [ -z "$$found" ] && [ -n "$$lacking" ]; then \
	echo "$$lacking cannot make virtual environments: install its venv package (on Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; \
fi; \
if [ -z "$$found" ]; then \
	echo "Muster needs Python 3.11 or newer and found none: install one, or name it with make PYTHON=/path/to/python." >&2; exit 1; \
fi; \
mkdir -p "$$making" && echo $$$$ > "$$making/pid" && trap 'rm -rf "$$making"' EXIT; \
echo "Making $(VENV) with $$("$$found" -V) …"; \
rm -rf $(VENV) && "$$found" -m venv $(VENV) && printf %s "$$PWD" > $(VENV)/.place
endef

# uv does not read pip's configuration, but a mirror or certificate named there is meant for uv too. uv runs in another
# folder: here it would apply [tool.uv] of pyproject.toml, whose constraints are for locking and have no hashes. It
# compiles what it installs; otherwise, in a shell with PYTHONDONTWRITEBYTECODE, every start would take 1.6 s to do so.
define uv_install
index=$$($(BIN)/pip config get global.index-url 2>/dev/null || true); \
UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$index}}"; \
if [ -n "$$UV_DEFAULT_INDEX" ]; then export UV_DEFAULT_INDEX; else unset UV_DEFAULT_INDEX; fi; \
if [ -n "$$PIP_CERT" ]; then SSL_CERT_FILE="$${SSL_CERT_FILE:-$$PIP_CERT}"; export SSL_CERT_FILE; fi; \
here=$$PWD; cd / && "$$here/$(BIN)/uv" pip install --quiet --compile-bytecode --python "$$here/$(if $(1),$(1),$(BIN))/python"
endef

# Printed after the installer's own message, which says what failed but not what a newcomer can do about it.
define no_packages
echo "The packages could not be installed: the first run needs the network. Check it (and HTTPS_PROXY), or name a mirror" \
	"with PIP_INDEX_URL; then run make again, which goes on where it stopped." >&2; exit 1;
endef

$(VENV)/.place: FORCE
	@$(find_python)

$(VENV)/.bootstrap: $(LOCK)/bootstrap.txt $(VENV)/.place
	@echo "Installing uv …"
	@$(BIN)/pip install --quiet --require-hashes -r $(LOCK)/bootstrap.txt || { $(no_packages) }
	@touch $@

$(VENV)/.editable: pyproject.toml $(VENV)/.bootstrap
	@$(call uv_install) --no-deps --no-build-isolation --editable "$$here"
	@touch $@

# The console's scripts for browsers, which are in no repository.
SCRIPTS := console/vendor/sse.js
$(SCRIPTS): local_stack/webjars.txt | $(VENV)/.bootstrap
	@echo "Fetching the console's scripts …"
	@$(BIN)/python -m local_stack.webjars
	@touch $@

$(VENV)/.local: $(LOCK)/local.txt $(VENV)/.editable $(SCRIPTS)
	@echo "Installing what the local stack needs …"
	@$(call uv_install) --require-hashes -r "$$here/$(LOCK)/local.txt" || { $(no_packages) }
	@touch $@

$(VENV)/.dev: $(LOCK)/dev.txt $(VENV)/.editable $(SCRIPTS)
	@echo "Installing what tests and checks need …"
	@$(call uv_install) --require-hashes -r "$$here/$(LOCK)/dev.txt" || { $(no_packages) }
	@touch $@

# Apart from the rest, because the generator of clients wants older releases than Muster does; and a client that works
# here needs nothing of Muster's.
$(VENV)/.client: $(LOCK)/client.txt $(VENV)/.bootstrap
	@echo "Installing what generated clients need …"
	@$(BIN)/python -m venv --clear --without-pip $(VENV)/client
	@$(call uv_install,$(VENV)/client/bin) --require-hashes -r "$$here/$(LOCK)/client.txt"
	@touch $@

$(VENV)/.audit: $(LOCK)/audit.txt $(VENV)/.bootstrap
	@echo "Installing what audits …"
	@$(BIN)/python -m venv --clear --without-pip $(VENV)/audit
	@$(call uv_install,$(VENV)/audit/bin) --require-hashes -r "$$here/$(LOCK)/audit.txt" || { $(no_packages) }
	@touch $@

# With CHROMIUM=/path/to/chromium only what drives it is installed.
CHROMIUM_PACKAGE := @sparticuz/chromium@153.0.0
define no_browser
echo "There is no browser, so NOTHING WAS TRIED IN ONE: check the network, or name a Chromium of yours with" \
	"CHROMIUM=/path/to/chromium." >&2; exit 1;
endef
define fetch_browser
cd $(VENV)/browser && export PATH="$$PWD/bin:$$PATH" TMPDIR="$$PWD" \
	&& npm install --silent --no-audit --no-fund --ignore-scripts $(CHROMIUM_PACKAGE) \
	&& node --input-type=module -e "await (await import('@sparticuz/chromium')).default.executablePath()"
endef

$(VENV)/.browser: $(LOCK)/browser.txt $(VENV)/.bootstrap
	@echo "Installing what drives a browser …"
	@$(BIN)/python -m venv --clear --without-pip $(VENV)/browser
	@$(call uv_install,$(VENV)/browser/bin) --require-hashes -r "$$here/$(LOCK)/browser.txt" || { $(no_browser) }
	@touch $@

ASYNCAPI_PARSER := @asyncapi/parser@3.6.3
$(VENV)/browser/asyncapi: $(VENV)/.browser
	@cd $(VENV)/browser && export PATH="$$PWD/bin:$$PATH" \
		&& npm install --silent --no-audit --no-fund --ignore-scripts $(ASYNCAPI_PARSER) \
		|| { echo "AsyncAPI's parser could not be fetched, so NOTHING WAS PARSED: check the network." >&2; exit 1; }
	@touch $@

EVENTSOURCE := eventsource@5.1.5
$(VENV)/browser/eventsource: $(VENV)/.browser
	@cd $(VENV)/browser && export PATH="$$PWD/bin:$$PATH" \
		&& npm install --silent --no-audit --no-fund --ignore-scripts $(EVENTSOURCE) \
		|| { echo "EventSource could not be fetched, so NOTHING WAS FOLLOWED: check the network." >&2; exit 1; }
	@touch $@

# What finds faults of accessibility in a page.
AXE := axe-core@4.10.3
$(VENV)/browser/axe: $(VENV)/.browser
	@cd $(VENV)/browser && export PATH="$$PWD/bin:$$PATH" \
		&& npm install --silent --no-audit --no-fund --ignore-scripts $(AXE) || { $(no_browser) }
	@touch $@

$(VENV)/browser/chromium: | $(VENV)/.browser
	@for each in chromium chromium-browser google-chrome google-chrome-stable; do \
		if "$$each" --version >/dev/null 2>&1; then ln -sf "$$(command -v "$$each")" $@; exit 0; fi; \
	done; { $(fetch_browser); } || { $(no_browser) }

# Debian's package, unpacked: that needs no root. Elsewhere install Prometheus, and say where: PROMETHEUS=/usr/bin.
$(VENV)/prometheus/usr/bin/%:
	@mkdir -p $(VENV)/prometheus && cd $(VENV)/prometheus && apt-get download --quiet prometheus && dpkg -x prometheus_*.deb . \
		|| { echo "Prometheus cannot be had here, so NO ALERT WAS TRIED: install it, and run with PROMETHEUS=FOLDER." >&2; exit 1; }
	@touch $@

$(VENV)/.bench: $(LOCK)/bench.txt $(VENV)/.editable
	@echo "Installing what benchmarks need …"
	@$(uv_install) --require-hashes -r "$$here/$(LOCK)/bench.txt"
	@touch $@

.PHONY: FORCE
FORCE:
