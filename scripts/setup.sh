# shellcheck shell=bash disable=SC2034
# Shared by quickstart and run-tests (sourced by bash): Debian packages, and builds.

# What the build needs; names of Debian 12.
BUILD_PACKAGES=(g++ cmake ninja-build libfmt-dev nlohmann-json3-dev libcli11-dev libboost-dev libtinyxml2-dev zlib1g-dev libdnnl-dev libmimalloc-dev)
# What the tests need beyond that.
TEST_PACKAGES=(libgtest-dev python3 python3-dev pybind11-dev python3-jsonschema clang-format-14 openmpi-bin libopenmpi-dev iproute2 chromium shellcheck)

say() { printf '\n== %s\n' "$*"; }
die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# need_packages NAME...: installs those that are missing, as root or through sudo. Touches no network when none is missing.
need_packages() {
  local missing=() name
  command -v dpkg-query >/dev/null ||
    die "this is not Debian: install the equivalents of '$*' by hand, then: cmake --preset release && cmake --build --preset release"
  for name in "$@"; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || missing+=("$name")
  done
  if ((${#missing[@]} == 0)); then
    say "packages: all $# are there"
    return
  fi
  say "packages: installing ${missing[*]}"
  local as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "these packages are missing, and neither root nor sudo is at hand; run as root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get -q update || die "apt-get update failed; is there a network?"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing[@]}" ||
    die "apt-get install failed"
}

# Compilers at once: one per core, and at least 1.5 GB of free memory for each.
build_jobs() {
  local cores free_mb fitting
  cores=$(nproc)
  free_mb=$(awk '/^MemAvailable:/ {print int($2 / 1024)}' /proc/meminfo 2>/dev/null) || free_mb=
  fitting=$((${free_mb:-1500} / 1500))
  if ((fitting < cores)); then cores=$fitting; fi
  if ((cores < 1)); then cores=1; fi
  echo "$cores"
}

# build PRESET [TARGET...]: configures and builds it; no target means everything.
build() {
  local preset=$1 jobs
  shift
  jobs=$(build_jobs)
  say "build: preset $preset, $jobs at a time"
  cmake --preset "$preset" >"build/$preset.configure.log" 2>&1 || {
    cat "build/$preset.configure.log" >&2
    return 1
  }
  cmake --build --preset "$preset" -j "$jobs" ${1:+--target "$@"}
}
