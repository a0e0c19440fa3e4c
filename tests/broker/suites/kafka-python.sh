# kafka-python's integration tests, as its source distribution has them, one process for each. Those that start a broker of their
# own for TLS, SASL and ACLs are left out, and the one for brokers before 0.10.1.
version=3.0.12
node_id=0
wants=(num.partitions=4 group.min.session.timeout.ms=3000)
source=$cache/kafka-python-$version

prepare() {
  if [ ! -f "$source/.complete" ]; then
    rm -rf "$source" && mkdir -p "$source" && python3 -m venv "$source/venv" || return
    local pip="$source/venv/bin/pip -q --disable-pip-version-check"
    { $pip install "kafka-python==$version" crc32c lz4 python-snappy zstandard pytest pytest-mock pytest-timeout py &&
      $pip download --no-deps --no-binary :all: -d "$source" "kafka-python==$version"; } >&2 || return
    tar -xzf "$source"/kafka[-_]python-"$version".tar.gz -C "$source" --strip-components 1 || return
    add_what_the_distribution_lacks && touch "$source/.complete" || return
  fi
  export KAFKA_VERSION=${KAFKA_VERSION:-4.3.0} KAFKA_URI=kafka://$address KAFKA_ROOT=$source
}

# The fixtures import test.service, of which a broker that runs already needs a name and two methods only.
add_what_the_distribution_lacks() {
  touch "$source/test/__init__.py" "$source/test/integration/__init__.py" &&
    cat > "$source/test/service.py" << 'PYTHON'
class ExternalService:
    """A broker that somebody else starts and stops."""

    def __init__(self, host, port):
        self.host, self.port = host, port

    def open(self):
        """There is nothing to start."""

    def close(self):
        """There is nothing to stop."""


class SpawnedService:
    """A broker that the tests would start themselves."""

    def __init__(self, *arguments):
        raise RuntimeError("the tests are to run against a broker that runs already")
PYTHON
}

pytest() { (cd "$source" && timeout 280 venv/bin/python -m pytest -q -p no:cacheprovider "$@"); }

tests() {
  pytest --collect-only test/integration | sed -n 's|^test/integration/\(.*::.*\)|\1|p' |
    grep -Ev '^test_(ssl|sasl)_|_acls|offsets_for_time_old|offsets_for_times?_unsupported'
}

run_test() {
  pytest -rA --timeout 240 "test/integration/$1" | tee "$logs/out" || return
  grep -q '^PASSED' "$logs/out" || return 77
}
