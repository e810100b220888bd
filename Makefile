# SPDX-License-Identifier: MIT
# Makefile -- builds the programs into bin/, everything else into build/.
#
#     make                  programs            make test [T=NAME]    all tests, or those whose path has NAME in it
#     make man              manual pages        make demo, bench      the pipeline on the small model; timings
#     make cuda             the GPU backend     make install          PREFIX, DESTDIR as usual; uninstall undoes it
#                           (NVCCFLAGS=-lineinfo for a profiler that shows lines; cuda-watch: bin/watch/sdsteer-cuda.so,
#                           whose kernels say where they wait for ever: kernels/cuda/hopper_watch.h)
#     make bench-peers      training beside Python's trainers, by PYTHON (tests/peers)
#
# Sources are found by wildcard: src/tools/NAME.c is a program; src/models, src/cli, kernels, kernels/cpu and formats are one
# static library; tests/unit/NAME.c and tests/bench/NAME.c are programs of their own. WERROR=1 makes warnings errors.

VERSION  = 0.1.0
PREFIX   = /usr/local
B        = build
BIN      = bin
CC       = gcc
CFLAGS   = -O2 -g
NVCCFLAGS =
WERROR   =
PYTHON  ?= python3
NVCC    ?= $(firstword $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc))
CXX      = g++
# Code for A100 and H100, and PTX of the latter for what came after it.
CUDA_ARCH = -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90 -gencode arch=compute_90,code=compute_90

# What the goals need of Debian's packages is installed before anything is asked of the compiler.
GOALS   := $(or $(MAKECMDGOALS),all)
ifneq ($(if $(findstring n,$(firstword -$(MAKEFLAGS))),,$(filter-out clean uninstall,$(GOALS))),)
$(shell pipelines/install-deps $(if $(filter test,$(GOALS)),--tests,$(if $(filter demo bench,$(GOALS)),--demo)) >&2)
ifneq ($(.SHELLSTATUS),0)
$(error packages are missing)
endif
endif

WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wno-format-truncation \
           -Werror=implicit-function-declaration -Werror=incompatible-pointer-types -Werror=int-conversion \
           $(if $(WERROR),-Werror)
ALL_CPPFLAGS = -I. -D_GNU_SOURCE -DSDSTEER_VERSION=$(VERSION) $(CPPFLAGS)
ALL_CFLAGS   = -std=c17 -fopenmp $(WARNINGS) $(CFLAGS)
# oneDNN multiplies on x86-64 alone: for other processors Debian's has no code of their own (kernels/cpu/conv_tiles.c).
ifneq ($(filter x86_64-%,$(shell $(CC) -dumpmachine 2>/dev/null)),)
DNNL         = -ldnnl
endif
# msgpack-c 6 has another name than those before.
MSGPACK      = $(if $(findstring /,$(shell $(CC) -print-file-name=libmsgpackc.so 2>/dev/null)),-lmsgpackc,-lmsgpack-c)
LIBS         = $(DNNL) -lzstd $(MSGPACK) -ljansson -lutf8proc -lpng -ljpeg -lm
# Kernels are built with -O3 (neither level reorders floating-point sums), where a*b + c is one instruction in sums too:
# gcc 14 makes it two in some loops and one in others of the same sum, for some processors' sake.
LEVEL        = $(if $(filter $(B)/kernels/%,$@),-O3 -ffp-contract=fast --param=avoid-fma-max-bits=0 -fno-math-errno)

TOOLS   := $(patsubst src/tools/%.c,%,$(wildcard src/tools/*.c))
# Kernels of the CPU are compiled once a level (kernels/cpu/level.h); on x86-64 alone conv.c and gemm.c, which are
# oneDNN's, and conv_amx.c for the highest.
ONCE    := $(patsubst %,kernels/cpu/%.c,amx comm cpu sae_codes)
X86     := $(patsubst %,kernels/cpu/%.c,conv conv_amx gemm)
LEVELS  := $(if $(DNNL),any avx2 avx512 avx512_bf16,any)
LEVELED := $(filter-out $(ONCE) $(X86),$(wildcard kernels/cpu/*.c)) $(if $(DNNL),kernels/cpu/conv.c kernels/cpu/gemm.c)
LIBRARY := $(patsubst %.c,$(B)/%.o,$(wildcard src/models/*.c src/cli/*.c kernels/*.c formats/*.c) $(ONCE)) \
           $(foreach level,$(LEVELS),$(LEVELED:%.c=$(B)/%.$(level).o)) \
           $(if $(DNNL),$(B)/kernels/cpu/conv_amx.avx512_bf16.o)
UNITS   := $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/*.c))
BENCHES := $(patsubst tests/bench/%.c,$(B)/bench/%,$(wildcard tests/bench/*.c))
CUDA    := $(wildcard kernels/cuda/*.cu)
CUDA_PLAIN := $(patsubst %,$(B)/cuda/%.o,err dtype weight team)       # C, of what is beside the kernels
CUDA_OBJECTS := $(CUDA:kernels/cuda/%.cu=$(B)/cuda/%.o) $(CUDA_PLAIN)
WATCHED := $(patsubst %,$(B)/cuda/%_hopper.o,attention product sae)
# The same kernels built for the host, for the tests that play them there (NAME_simt, and played.bats, whose programs open
# them as a device's): where there is a C++ compiler.
SIMT    := $(patsubst kernels/cuda/%.cu,$(B)/simt/%.o,$(CUDA)) $(patsubst tests/simt/%.cc,$(B)/simt/%.o,$(wildcard tests/simt/*.cc))
SIMT_TESTS := $(filter %_simt,$(UNITS))
PLAYED  := $(B)/simt/sdsteer-cuda.so
ifeq ($(shell command -v $(CXX)),)
UNITS   := $(filter-out $(SIMT_TESTS),$(UNITS))
PLAYED  :=
endif
OBJECTS := $(LIBRARY) $(TOOLS:%=$(B)/src/tools/%.o) $(UNITS:$(B)/tests/%=$(B)/tests/unit/%.o) \
           $(BENCHES:$(B)/bench/%=$(B)/tests/bench/%.o)
MANUALS := $(TOOLS:%=$(B)/man/man1/%.1)

all: $(TOOLS:%=$(BIN)/%)
units: $(UNITS) $(PLAYED)
benches: $(BENCHES)
man: $(MANUALS)
completion: $(B)/completion/sdsteer

.PHONY: all units benches man completion test demo bench bench-peers cuda cuda-watch install uninstall clean FORCE
.SECONDARY: $(OBJECTS)
.DELETE_ON_ERROR:
FORCE:

# ---- objects, library, programs ----

$(B)/%.o: %.c $(B)/flags Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(LEVEL) -MMD -MP -c -o $@ $<

$(B)/%.any.o: %.c $(B)/flags Makefile
	$(compile_level)
$(B)/%.avx2.o: %.c $(B)/flags Makefile
	$(compile_level)
$(B)/%.avx512.o: %.c $(B)/flags Makefile
	$(compile_level)
$(B)/%.avx512_bf16.o: %.c $(B)/flags Makefile
	$(compile_level)
$(B)/%.avx2.o: MACHINE = -mavx2 -mfma
AVX512       = -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mprefer-vector-width=512
$(B)/%.avx512.o: MACHINE = $(AVX512)
$(B)/%.avx512_bf16.o: MACHINE = $(AVX512) -mavx512bf16
define compile_level
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) -DCPU_BUILD=$(subst .,,$(suffix $(basename $@))) $(ALL_CFLAGS) $(LEVEL) $(MACHINE) -MMD -MP -c -o $@ $<
endef

# Made anew each time: ar would keep the members whose source is gone. The list changes when a source comes or goes.
$(B)/libsdsteer.a: $(LIBRARY) $(B)/members
	@rm -f $@.new
	$(AR) rcs $@.new $(LIBRARY)
	@mv $@.new $@

$(BIN)/%: $(B)/src/tools/%.o $(B)/libsdsteer.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

$(B)/tests/%: $(B)/tests/unit/%.o $(B)/libsdsteer.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

$(B)/bench/%: $(B)/tests/bench/%.o $(B)/libsdsteer.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

# Files that change only when what they say changes.
$(B)/flags: says = $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(LDFLAGS) $(LIBS)
$(B)/members: says = $(LIBRARY)
$(B)/flags $(B)/members: FORCE
	@mkdir -p $(@D); echo '$(says)' | cmp -s - $@ || echo '$(says)' > $@

# ---- the GPU backend: a shared object of its own, opened only when asked for ----

ifneq ($(NVCC),)
cuda: $(BIN)/sdsteer-cuda.so
cuda-watch: $(BIN)/watch/sdsteer-cuda.so
else
cuda cuda-watch:
	@echo 'make cuda: nvcc is not installed (NVCC=PATH names it): the GPU backend is not built'
endif
NVCC_FLAGS = -std=c++17 -O3 $(NVCCFLAGS) $(CUDA_ARCH) -I. -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra \
             $(if $(WERROR),-Werror all-warnings -Xcompiler -Werror)

$(B)/cuda/%.o: kernels/cuda/%.cu Makefile
	@mkdir -p $(@D)
	$(NVCC) $(NVCC_FLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<

$(B)/watch/%.o: kernels/cuda/%.cu Makefile
	@mkdir -p $(@D)
	$(NVCC) $(NVCC_FLAGS) -DWATCH -MMD -MP -MF $(@:.o=.d) -c -o $@ $<

# wgmma is code for sm_90a alone. The rest is there for other devices to load, and does not hold what a 9.0 would take.
# Registers that go to memory while products are under way make the compiler let each wait for the one before.
$(WATCHED) $(WATCHED:$(B)/cuda/%=$(B)/watch/%): CUDA_ARCH = -gencode arch=compute_90a,code=sm_90a \
                                    -gencode arch=compute_80,code=sm_80 -gencode arch=compute_80,code=compute_80
$(WATCHED): NVCC_FLAGS += -Xptxas -warn-spills

$(B)/cuda/%.o: formats/%.c $(B)/flags Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -fPIC -fvisibility=hidden -MMD -MP -c -o $@ $<

$(B)/cuda/%.o: kernels/%.c $(B)/flags Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -fPIC -fvisibility=hidden -MMD -MP -c -o $@ $<

$(BIN)/sdsteer-cuda.so: $(CUDA_OBJECTS)
$(BIN)/watch/sdsteer-cuda.so: $(filter-out $(WATCHED),$(CUDA_OBJECTS)) $(WATCHED:$(B)/cuda/%=$(B)/watch/%)
$(BIN)/sdsteer-cuda.so $(BIN)/watch/sdsteer-cuda.so:
	@mkdir -p $(@D)
	$(NVCC) $(CUDA_ARCH) -shared -o $@ $^

$(B)/simt/%.o: kernels/cuda/%.cu Makefile
	@mkdir -p $(@D)
	$(CXX) -x c++ $(SIMT_FLAGS) -MMD -MP -c -o $@ $<

$(B)/simt/%.o: tests/simt/%.cc Makefile
	@mkdir -p $(@D)
	$(CXX) $(SIMT_FLAGS) -MMD -MP -c -o $@ $<

$(B)/simt/sdsteer-cuda.so: $(SIMT) $(CUDA_PLAIN)
	$(CXX) -shared -o $@ $^ -lm

SIMT_FLAGS = -std=c++17 -DSIMT -I. -Itests/simt -O2 -g -fPIC -fno-exceptions -fno-rtti -fno-threadsafe-statics \
             -Wall -Wextra -Wno-unknown-pragmas -Wno-psabi \
             $(if $(WERROR),-Werror)

$(SIMT_TESTS): $(B)/tests/%: $(B)/tests/unit/%.o $(SIMT) $(B)/libsdsteer.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -rdynamic -o $@ $^ $(LIBS)

# ---- tests, demo ----

# The tests get what was set on the command line (a make of theirs then rebuilds nothing), but not this make's job slots.
test: all units man completion
	@MAKEFLAGS='$(if $(MAKEOVERRIDES),-- $(MAKEOVERRIDES))' tests/run $(T)
demo: all
	@pipelines/demo
bench: all benches
	@tests/bench/run
bench-peers: all $(B)/bench/gemm_peak
	@$(PYTHON) tests/peers/bench

# ---- manual pages and completion, from the programs' own option tables ----

$(B)/man/man1/%.1: $(BIN)/%
	@mkdir -p $(@D)
	$< --man > $@

$(B)/completion/sdsteer: $(TOOLS:%=$(BIN)/%) pipelines/make-completion
	@mkdir -p $(@D)
	pipelines/make-completion $(TOOLS:%=$(BIN)/%) > $@

install: all man completion
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man7 \
	    $(DESTDIR)$(PREFIX)/share/sdsteer $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install $(TOOLS:%=$(BIN)/%) $(DESTDIR)$(PREFIX)/bin
	test ! -e $(BIN)/sdsteer-cuda.so || install -D $(BIN)/sdsteer-cuda.so $(DESTDIR)$(PREFIX)/lib/sdsteer/sdsteer-cuda.so
	install -m 644 $(MANUALS) $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 man/sdsteer.7 $(DESTDIR)$(PREFIX)/share/man/man7
	cp -R data/. $(DESTDIR)$(PREFIX)/share/sdsteer
	for tool in $(TOOLS); do install -m 644 $(B)/completion/sdsteer \
	    $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$tool || exit 1; done

uninstall:
	rm -f $(TOOLS:%=$(DESTDIR)$(PREFIX)/bin/%) $(TOOLS:%=$(DESTDIR)$(PREFIX)/share/man/man1/%.1) \
	    $(TOOLS:%=$(DESTDIR)$(PREFIX)/share/bash-completion/completions/%) $(DESTDIR)$(PREFIX)/share/man/man7/sdsteer.7
	rm -rf $(DESTDIR)$(PREFIX)/share/sdsteer $(DESTDIR)$(PREFIX)/lib/sdsteer

clean:
	rm -rf $(B) $(TOOLS:%=$(BIN)/%) $(BIN)/sdsteer-cuda.so $(BIN)/watch

-include $(OBJECTS:.o=.d) $(CUDA_OBJECTS:.o=.d) $(WATCHED:$(B)/cuda/%.o=$(B)/watch/%.d) $(SIMT:.o=.d)
