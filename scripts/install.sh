#!/usr/bin/env bash
# Makes .venv from the hash-locked requirements and installs this checkout into it, editable. `make install` calls it.
#
#   PYTHON=/path/to/python   use this interpreter instead of the first of python3.11, python3.12, python3.13 that works
#
# The file .venv/installed is written last, so an environment without it was interrupted: it is removed and made again.
# An environment that was finished for an older lock is brought up to date in place. Only one copy of this script works
# on a checkout at a time.
set -euo pipefail

if [[ ${1-} != --locked ]]; then
    exec "$(dirname "${BASH_SOURCE[0]}")/with-lock.sh" install "${BASH_SOURCE[0]}" --locked
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"
stamp=.venv/installed
tested=3.11

# Settings of the caller that would send packages elsewhere or contradict the lock. Where packages are fetched from
# (index, mirror, certificates, proxy) stays the caller's choice: the hashes decide what is accepted.
unset PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_ROOT PIP_USER PIP_REQUIREMENT PIP_CONSTRAINT \
    PIP_BUILD_CONSTRAINT PIP_REQUIRE_HASHES PIP_NO_BINARY PIP_ONLY_BINARY PIP_PRE PIP_DRY_RUN PIP_PYTHON PIP_EDITABLE

fail() {
    echo "error: $1" >&2
    exit 1
}

# Prints "ok VERSION INTERPRETER" (INTERPRETER is outside any virtual environment), or one clause on what is wrong.
read -r -d '' probe <<'PYTHON' || true
import os, platform, sys, sysconfig

version = "%d.%d" % sys.version_info[:2]
try:
    glibc = tuple(int(part) for part in os.confstr("CS_GNU_LIBC_VERSION").split()[1].split(".")[:2])
except (AttributeError, IndexError, OSError, ValueError):
    glibc = (0, 0)
try:
    import ensurepip, venv
except ImportError:
    venv = None
if version not in ("3.11", "3.12", "3.13") or platform.python_implementation() != "CPython":
    print("is %s %s; CPython 3.11, 3.12 or 3.13 is needed" % (platform.python_implementation(), version))
elif sysconfig.get_config_var("Py_GIL_DISABLED"):
    print("is the free-threaded build, for which the lock was not resolved")
elif glibc < (2, 28):
    print("runs on a C library older than glibc 2.28 or on another one, for which there are no wheels")
elif venv is None:
    print("cannot make virtual environments: install the package python%s-venv" % version)
else:
    print("ok", version, getattr(sys, "_base_executable", sys.executable))
PYTHON

# Sets version and base from the command $1, or sets complaint. A pyenv shim that exists but fails is a complaint.
examine() {
    local answer
    answer=$("$1" -c "$probe" </dev/null 2>/dev/null) || answer="does not run"
    if [[ $answer == "ok "* ]]; then
        read -r _ version base <<<"$answer"
        return 0
    fi
    complaint="$1 $answer"
    return 1
}

find_python() {
    local name path first=""
    if [[ -n ${PYTHON-} ]]; then
        command -v "$PYTHON" >/dev/null || fail "PYTHON=$PYTHON is not a program on this machine."
        examine "$PYTHON" || fail "PYTHON: $complaint."
        return
    fi
    for name in python3.11 python3.12 python3.13 python3; do
        while read -r path; do
            examine "$path" && return
            first=${first:-$complaint}
        done < <(type -ap "$name")
    done
    fail "no usable Python 3.11, 3.12 or 3.13 was found${first:+ ($first)}; install one or set PYTHON=/path/to/python."
}

# What the environment is made from: a change of any of these files changes it.
digest_for() {
    cat "requirements/lock-$1.txt" requirements/build.txt pyproject.toml | sha256sum | cut -d " " -f 1
}

say_tested() {
    [[ $version == "$tested" ]] ||
        echo "Note: Python $version; its lock is resolved but not tested, the tested one is Python $tested."
}

[[ $(uname -s) == Linux ]] || fail "this runs on Linux only, and this is $(uname -s)."
[[ $(uname -m) == x86_64 ]] || fail "the locks are resolved for x86_64 only, and this is $(uname -m)."

# 1. Is there a finished environment, of this checkout and of the interpreter that is asked for?
finished=no
if [[ -f $stamp && -x .venv/bin/python ]]; then
    { read -r was_root && read -r version && read -r base && read -r was_digest; } <"$stamp" || was_root=""
    [[ $was_root == "$root" ]] && finished=yes
    if [[ $finished == yes && -n ${PYTHON-} ]]; then
        was_base=$base
        find_python
        [[ $was_base == "$base" ]] || finished=no
    fi
fi
if [[ $finished == yes ]]; then
    digest=$(digest_for "$version")
    if [[ $was_digest == "$digest" ]]; then
        say_tested
        exit 0
    fi
else
    find_python
    digest=$(digest_for "$version")
fi

# 2. From here on the environment is unfinished until the stamp is back.
rm -f "$stamp"
trap 'echo "error: the installation into .venv did not finish; mend what is said above and run make again." >&2' ERR
pip=(.venv/bin/python -m pip --disable-pip-version-check --no-input)
[[ -t 1 ]] || pip+=(--quiet)
if [[ $finished == no ]]; then
    [[ -e .venv ]] && echo "Removing .venv: it is unfinished, or of another place or Python."
    rm -rf .venv
    echo "Installing into .venv with Python $version ($base): about 6.5 GB, 4 minutes."
    "$base" -m venv .venv
else
    echo "Bringing .venv up to date with its lock."
fi
"${pip[@]}" install --require-hashes -r requirements/build.txt
"${pip[@]}" install --require-hashes --no-deps --no-build-isolation -r "requirements/lock-$version.txt"

# 3. What an older lock had and this one has not.
normal() { tr "[:upper:]_." "[:lower:]--" | sort -u; }
mapfile -t surplus < <(comm -23 \
    <(.venv/bin/python -m pip list --format=freeze --exclude securefl --exclude pip | sed "s/[ =@].*//" | normal) \
    <(sed -n "s/^\([A-Za-z0-9][A-Za-z0-9._-]*\)==.*/\1/p" requirements/build.txt "requirements/lock-$version.txt" | normal))
if ((${#surplus[@]})); then
    "${pip[@]}" uninstall --yes "${surplus[@]}"
fi

# 4. This checkout, and the proof that all of it fits together.
"${pip[@]}" install --no-deps --no-build-isolation --editable .
"${pip[@]}" check
printf '%s\n' "$root" "$version" "$base" "$digest" >"$stamp.new"
mv "$stamp.new" "$stamp"
say_tested
