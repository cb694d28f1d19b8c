# Front door to Meson. `make` leaves a release build at build/fathom.
BUILD ?= build

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) fathom

$(BUILD)/build.ninja:
	@meson setup $(BUILD) --buildtype=release -Dtests=false

debug:
	@test -f build-debug/build.ninja || meson setup build-debug --buildtype=debug
	@ninja -C build-debug

asan:
	@test -f build-asan/build.ninja || meson setup build-asan --buildtype=debugoptimized \
		-Db_sanitize=address,undefined -Db_lundef=false
	@ninja -C build-asan

check:
	@./check

clean:
	rm -rf build build-check build-debug build-asan build-fuzz

.PHONY: all debug asan check clean
