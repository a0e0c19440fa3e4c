# franz-go's own tests that want a broker, as its module has them, one process for each. Those of share groups and of the newer
# group protocol are left out. KGO_TEST_RECORDS says how many records the largest of them move.
version=v1.22.2
source=$cache/franz-go-$version

prepare() {
  command -v go > /dev/null || return
  if [ ! -x "$source/kgo.test" ]; then
    local module
    module=$(cd "$here/../clients/go" && go mod download -json "github.com/twmb/franz-go@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p') || return
    rm -rf "$source" && cp -r "$module" "$source" && chmod -R u+w "$source" || return
    (cd "$source" && CGO_ENABLED=0 go test -c -o kgo.test ./pkg/kgo) || return
  fi
  export KGO_SEEDS=$address KGO_TEST_RF=1 KGO_TEST_RECORDS=${KGO_TEST_RECORDS:-100000}
}

tests() {
  (cd "$source/pkg/kgo" && awk '
    /^func / { name = "" }
    /^func Test/ { name = $2; sub(/\(.*/, "", name) }
    /getSeedBrokers|newTestClient|tmpTopic/ { if (name != "") wanted[name] = 1 }
    END { for (name in wanted) print name }' ./*_test.go) | grep -Ev 'Share|848' | sort
}

run_test() {
  cd "$source/pkg/kgo" && timeout 280 "$source/kgo.test" -test.run "^$1\$" -test.v | tee "$logs/out" || return
  ! grep -q "^--- SKIP: $1 " "$logs/out" || return 77
}
