# Submeter: the extension through PGXS, the daemon in poller/, and everything that tests them.
#
#   make            build everything                make check    all tests
#   make deps       install what is missing         make bench    the figures of the README
#   make install    into the server of PG_CONFIG    make demo     the story, in about a minute
#   make lint       style, exports, versions        make up/down  the demo left running
#   make fuzz       every parser, ten minutes each
#
# The file has two halves. The first needs nothing but make, so that "make deps" works on an empty
# machine; it calls the second one, which includes PGXS, under a lock, so that two makes in one
# tree do not write the same objects.

SHELL = /bin/bash
PG_CONFIG ?= $(firstword $(wildcard /usr/lib/postgresql/15/bin/pg_config) pg_config)
EXTENSION = submeter
EXTVERSION := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" submeter.control)
# Folders that have a Makefile of their own.
SUBDIRS := $(patsubst %/Makefile,%,$(wildcard poller/Makefile tests/sim/Makefile))

ifndef BUILD_EXTENSION

BUILD_GOALS = all install install-extension uninstall clean
CHECK_PARTS = check-unit check-fuzz check-regress check-pgtap check-isolation check-sim check-e2e

.PHONY: $(BUILD_GOALS) $(CHECK_PARTS) deps demo check fuzz bench up down lint
.DEFAULT_GOAL := all

$(BUILD_GOALS):
	@$(PG_CONFIG) --pgxs >/dev/null 2>&1 || [ $@ = clean ] || \
		{ echo 'make: pg_config of PostgreSQL not found; "make deps" installs it' >&2; exit 1; }
	@+flock Makefile $(MAKE) --no-print-directory BUILD_EXTENSION=1 PG_CONFIG=$(PG_CONFIG) whole-$@

deps:
	@tests/deps

check: deps
	@$(MAKE) --no-print-directory all
	@tests/run

# ONLY=pattern picks files by name, for instance: make check-e2e ONLY=story
$(CHECK_PARTS): deps
	@$(MAKE) --no-print-directory all
	@tests/run $(patsubst check-%,%,$@)

# Every parser for SECONDS_EACH seconds.
SECONDS_EACH ?= 600
fuzz: deps
	@FUZZ_SECONDS=$(SECONDS_EACH) tests/run fuzz

# $(call run_script,path): a part of the tree that a source package may have left out.
run_script = @if [ -x $(1) ]; then exec $(1); \
	else echo 'make $@: $(1) is missing from this tree' >&2; exit 1; fi

demo: deps
	@$(MAKE) --no-print-directory all
	$(call run_script,tests/demo/demo)

up: deps
	@$(MAKE) --no-print-directory all
	$(call run_script,tests/demo/up)

down:
	$(call run_script,tests/demo/down)

bench: deps
	@$(MAKE) --no-print-directory all
	$(call run_script,tests/bench/run)

lint: all
	@tests/lib/lint

else # BUILD_EXTENSION

MODULE_big = submeter
# One room, one file.
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard extension/*.c)))
SCRIPT = extension/submeter--$(EXTVERSION).sql
DATA = $(sort $(wildcard extension/upgrade/submeter--*--*.sql))
DATA_built = $(SCRIPT)
# Signatures and secrets; codes to scan; bill files.
SHLIB_LINK = -lcrypto -lqrencode -lzip -lz
EXTRA_CLEAN = $(OBJS:.o=.d) results
NO_INSTALLCHECK = 1

# The server's headers count as the system's, or -Wextra would complain about its macros.
# PGDLLEXPORT is empty in PostgreSQL 15; with hidden symbols it has to say what stays visible.
PG_CPPFLAGS = -Iextension -DSUBMETER_VERSION='"$(EXTVERSION)"' -MMD -MP \
	-isystem $(shell $(PG_CONFIG) --includedir-server) -DPGDLLEXPORT='__attribute__((visibility("default")))'
PG_CFLAGS = -std=gnu11 -fvisibility=hidden -Wall -Wextra -Wno-unused-parameter -Werror

# No LLVM bitcode: it would need clang and serves only inlining by the JIT.
override with_llvm = no

PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifneq ($(PGXS),)
include $(PGXS)
else
clean:
	rm -f $(OBJS) $(SCRIPT) submeter.so
	rm -rf $(EXTRA_CLEAN)
endif

-include $(OBJS:.o=.d)

$(OBJS): submeter.control Makefile

# The install script: parts in the order of their numbers; the storage as one row that
# create_storage() runs; last what closes the script (99).
INSTALL_PARTS = $(sort $(wildcard extension/install/*.sql))
STORAGE_PARTS = $(sort $(wildcard extension/storage/[0-9]*.sql))
LAST_PARTS = $(filter extension/install/99_%,$(INSTALL_PARTS))

$(SCRIPT): $(INSTALL_PARTS) $(STORAGE_PARTS) submeter.control Makefile \
		$(wildcard extension/install extension/storage)
	@! grep -n 'submeter_storage\$$' $(STORAGE_PARTS) /dev/null || \
		{ echo 'make: a storage part contains the quote of the storage text' >&2; exit 1; }
	{ \
		cat $(filter-out $(LAST_PARTS),$(INSTALL_PARTS)) && \
		printf '\nINSERT INTO submeter.storage_step (version, ddl)\nVALUES (1, $$submeter_storage$$\n' && \
		cat $(STORAGE_PARTS) /dev/null && \
		printf '$$submeter_storage$$);\n' && \
		cat $(LAST_PARTS) /dev/null; \
	} > $@.new && mv $@.new $@

# PGXS owns the names all, install and clean; these are the same for the whole tree.
.PHONY: whole-all whole-install whole-install-extension whole-uninstall whole-clean \
	$(SUBDIRS) $(SUBDIRS:%=clean-%) install-poller
whole-all: all $(SUBDIRS)
whole-install-extension: install
whole-install: install $(if $(filter poller,$(SUBDIRS)),install-poller)
whole-uninstall: uninstall
whole-clean: clean $(SUBDIRS:%=clean-%)
	@if ls .run/*/*/data/postmaster.pid .run/*/*/*/data/postmaster.pid >/dev/null 2>&1; \
	then echo 'make clean: .run is kept, a server runs there'; else rm -rf .run; fi

$(SUBDIRS):
	+$(MAKE) -C $@

$(SUBDIRS:%=clean-%): clean-%:
	+$(MAKE) -C $* clean

# The daemon installs itself where its own Makefile says (PREFIX, DESTDIR).
install-poller: poller
	+$(MAKE) -C poller install

endif # BUILD_EXTENSION
