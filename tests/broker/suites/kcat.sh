# kcat: each case is a function whose name begins with "case_"; it has a topic of its own, $t, and a folder, $d.
wants=(auto.create.topics.enable=true num.partitions=4)

prepare() { install kcat kcat; }
tests() { declare -F | sed -n 's/^declare -f case_//p'; }
run_test() {
  t=kcat-$1-$$ d=$(mktemp -d)
  case_"$1"
  local status=$?
  rm -rf "$d"
  return $status
}

P() { timeout 60 kcat -q -b "$address" -P -t "$t" "$@"; }
C() { timeout 60 kcat -q -b "$address" -C -t "$t" -X fetch.wait.max.ms=50 "$@"; }
G() { timeout 60 kcat -q -b "$address" -X fetch.wait.max.ms=50 -X auto.offset.reset=earliest "$@"; }
# same WANTED GOT
same() { [ "$1" = "$2" ] || { printf 'wanted: %s\ngot: %s\n' "$1" "$2"; return 1; }; }
all() { C -e -o beginning "$@"; }
there_and_back() { seq 1000 | P "$@" && same "$(seq 1000)" "$(all | sort -n)"; }

case_metadata() { kcat -b "$address" -L -m 10 | grep -q '1 brokers'; }
case_metadata_json() { kcat -b "$address" -L -J -m 10 | python3 -c 'import json,sys; m=json.load(sys.stdin); assert len(m["brokers"]) == 1 and m["controllerid"] == m["brokers"][0]["id"]'; }
case_metadata_of_topic() { echo x | P && kcat -b "$address" -L -t "$t" -m 10 | grep -q "topic \"$t\" with 4 partitions"; }
case_metadata_of_new_topic() { kcat -b "$address" -L -t "$t" -m 10; for _ in $(seq 50); do kcat -b "$address" -L -t "$t" -m 10 | grep -q 'with 4 partitions' && return; sleep 0.1; done; return 1; }
case_auto_create() { echo one | P && same one "$(all)"; }
case_there_and_back() { there_and_back; }
case_acks_0() { there_and_back -X acks=0; }
case_acks_1() { there_and_back -X acks=1; }
case_acks_all() { there_and_back -X acks=all; }
case_gzip() { there_and_back -z gzip; }
case_snappy() { there_and_back -z snappy; }
case_lz4() { there_and_back -z lz4; }
case_zstd() { there_and_back -X compression.codec=zstd; }
case_idempotence() { there_and_back -X enable.idempotence=true; }
case_one_in_flight() { there_and_back -X max.in.flight=1 -X linger.ms=0; }
case_hundred_thousand() { seq 100000 | P -X linger.ms=20 && same 100000 "$(all | sort -nu | wc -l)"; }
case_order() { seq 20000 | P -p 0 && same "$(seq 20000)" "$(all -p 0)"; }
case_keys() { printf 'a:1\nb:2\na:3\n' | P -K : && same "$(printf 'a=1\na=3\nb=2')" "$(all -f '%k=%s\n' | sort)"; }
case_key_stays() { seq 100 | sed 's/^/same:/' | P -K : && same 1 "$(all -f '%p\n' | sort -u | wc -l)"; }
case_fixed_key() { echo 1 | P -k fixed && same 'fixed 1' "$(all -f '%k %s\n')"; }
case_murmur2() { printf 'foobar:1\n' | P -K : -X topic.partitioner=murmur2 && same 2 "$(all -f '%p\n')"; } # as Java's clients say
case_partition() { echo three | P -p 3 && same '3 0 three' "$(all -f '%p %o %s\n')"; }
case_tombstone() { printf 'a:1\na:\n' | P -p 0 -K : -Z && same 'a 1 a -1' "$(all -f '%k %S ' | xargs)"; }
case_headers() { echo x | P -H a=1 -H b=two -H a=3 && same 'a=1,b=two,a=3' "$(all -f '%h\n')"; }
case_timestamp() { local now; now=$(date +%s%3N); echo x | P && local at; at=$(all -f '%T\n') && [ "$at" -ge "$now" ] && [ "$at" -le "$(date +%s%3N)" ]; }
case_json() { echo '{"a":1}' | P -p 2 -k key && all -J | python3 -c 'import json,sys; m=json.load(sys.stdin); assert (m["partition"], m["offset"], m["key"], m["payload"]) == (2, 0, "key", "{\"a\":1}"), m'; }
case_from_offset() { seq 0 99 | P -p 0 && same "$(seq 40 99)" "$(C -p 0 -o 40 -e)"; }
case_from_tail() { seq 0 99 | P -p 0 && same "$(seq 90 99)" "$(C -p 0 -o -10 -e)"; }
case_from_end() { seq 10 | P -p 0 && same '' "$(C -p 0 -o end -e)"; }
case_count() { seq 0 99 | P -p 0 && same "$(seq 0 9)" "$(C -p 0 -o beginning -c 10)"; }
case_from_time() { seq 5 | P -p 0 && sleep 0.1 && local at; at=$(date +%s%3N) && seq 6 9 | P -p 0 && same "$(seq 6 9)" "$(C -p 0 -o s@"$at" -e)"; }
case_to_time() { seq 5 | P -p 0 && sleep 0.1 && local at; at=$(date +%s%3N) && sleep 0.1 && seq 6 9 | P -p 0 && same "$(seq 5)" "$(C -p 0 -o s@0 -o e@"$at" -e)"; }
case_query_time() { seq 5 | P -p 0 && same "$t [0] offset 0" "$(kcat -b "$address" -Q -t "$t":0:1)" && same "$t [0] offset 5" "$(kcat -b "$address" -Q -t "$t":0:-1)"; }
case_large_message() { head -c 900000 /dev/zero | tr '\0' x > "$d/large" && P "$d/large" -X message.max.bytes=2000000 && same 900000 "$(all -f '%S\n')"; }
case_too_large_message() { head -c 1500000 /dev/zero | tr '\0' x > "$d/large" && ! kcat -b "$address" -P -t "$t" -X message.max.bytes=2000000 -X message.timeout.ms=10000 "$d/large"; }
case_files() { echo one > "$d/1" && echo two > "$d/2" && P -p 0 "$d/1" "$d/2" && same 'one two' "$(all | xargs)"; }
case_delimiter() { printf 'a;b;c' | P -p 0 -D ';' && same 'a|b|c|' "$(all -D '|')"; }
case_follow() { # A consumer at the end gets what comes later.
  echo first | P -p 0 || return
  C -p 0 -o end -c 5 -u > "$d/out" &
  local consumer=$! n
  for n in $(seq 1000); do kill -0 $consumer 2> /dev/null || break; echo "$n" | P -p 0; done
  wait $consumer && same 5 "$(wc -l < "$d/out")"
}
case_group() { seq 1000 | P && same "$(seq 1000)" "$(G -G "$t" -c 1000 "$t" | sort -n)"; }
case_group_resumes() { seq 1000 | P && G -G "$t" -c 400 "$t" > "$d/1" && G -G "$t" -c 600 "$t" > "$d/2" && same "$(seq 1000)" "$(sort -n "$d/1" "$d/2")"; }
case_group_of_two() { # The first in the group learns of the second with its next heartbeat, up to three seconds later.
  echo 0 | P -p 0 || return
  G -G "$t" -u "$t" > "$d/1" & local one=$!
  G -G "$t" -u "$t" > "$d/2" & local two=$!
  local n
  for n in $(seq 1000); do
    echo "$n" | P -p $((n % 4))
    sleep 0.02
    [ -s "$d/1" ] && [ -s "$d/2" ] && break
  done
  for _ in $(seq 100); do [ "$(sort -nu "$d/1" "$d/2" | wc -l)" = $((n + 1)) ] && break; sleep 0.1; done
  kill $one $two; wait
  same "$(seq 0 "$n")" "$(sort -nu "$d/1" "$d/2")" && [ -s "$d/1" ] && [ -s "$d/2" ]
}
case_cooperative_group() { seq 1000 | P && same "$(seq 1000)" "$(G -X partition.assignment.strategy=cooperative-sticky -G "$t" -c 1000 "$t" | sort -n)"; }
case_two_groups() { seq 100 | P && same "$(seq 100)" "$(G -G "$t-a" -c 100 "$t" | sort -n)" && same "$(seq 100)" "$(G -G "$t-b" -c 100 "$t" | sort -n)"; }
case_transaction() { seq 100 | P -X transactional.id="$t" && same "$(seq 100)" "$(all -X isolation.level=read_committed | sort -n)"; }
case_uncommitted() { seq 100 | P && same "$(seq 100)" "$(all -X isolation.level=read_uncommitted | sort -n)"; }
case_small_fetches() { seq 3000 | P -p 0 && same "$(seq 3000)" "$(all -X fetch.message.max.bytes=100)"; }
case_pattern_group() { seq 10 | P && same "$(seq 10)" "$(G -G "$t" -c 10 "^$t\$" | sort -n)"; }
