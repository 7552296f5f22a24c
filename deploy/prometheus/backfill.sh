#!/usr/bin/env bash
# Adds the samples of `teams-pstn-exporter backfill` to the data folder of a Prometheus that is stopped, and the series of the
# recording rules over them.
#
# Usage: backfill.sh SAMPLES DATA [RULES]     RULES: rules.yml beside this script, unless you give another
#
# If all samples are of midnight (backfill --step=1d), each is repeated until the next one, every four minutes. Such a file is
# hundreds of times smaller. The last three hours get no samples, because Prometheus has its own of them in memory.
#
# A temporary Prometheus on loopback evaluates the rules: first those that need samples only, then those that need these, and so
# on. The blocks move into DATA when all of them are complete, so a failure leaves DATA as it is.
set -euo pipefail
# Seconds: the time between samples; the lengths of blocks of samples and of rules, out of those that promtool knows (2 h times
# a power of 3); what Prometheus may have in memory. promtool makes a block for each rule, so those are longer.
readonly step=240 sample_block=194400 rule_block=583200 head=10800 day=86400

fail() {
    echo "backfill.sh: $1" >&2
    exit 1
}

(($# == 2 || $# == 3)) || fail "usage: backfill.sh SAMPLES DATA [RULES]"
samples=$1 data=$2 rules=${3:-"$(dirname "$0")/rules.yml"}
for program in promtool prometheus curl awk; do
    command -v "$program" >/dev/null || fail "$program is missing; install it"
done
[[ -f $samples && $(tail -n 1 "$samples") == "# EOF" ]] || fail "$samples is not complete; run backfill again"
[[ -d $data ]] || fail "$data is not a folder; give the folder of --storage.tsdb.path"
[[ -f $rules ]] || fail "$rules is missing; give the file of the recording rules"
# Debian's Prometheus has no lock file by default, so look for open files. Only root and their owner can see them.
[[ $EUID == 0 || -O $data ]] || fail "you are not the owner of $data; run this as its owner or as root"
if [[ -n $(find /proc/[0-9]*/fd -lname "$(realpath "$data")/*" -print -quit 2>/dev/null) ]]; then
    fail "a Prometheus uses $data; stop it first"
fi

# In DATA, so that a block moves in one step. Prometheus ignores a folder with such a name.
work=$(mktemp --directory "$(realpath "$data")/backfill.XXXXXX")
server=
stop_server() {
    if [[ -n $server ]]; then
        kill "$server" 2>/dev/null || true
        wait "$server" || true
        server=
    fi
}
trap 'stop_server; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# Starts the temporary Prometheus on any free port.
start_server() {
    for _ in {1..5}; do
        port=$((20000 + RANDOM % 20000))
        prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/blocks" \
            --storage.tsdb.retention.time=100y --web.listen-address="127.0.0.1:$port" --log.level=error \
            2>"$work/server.log" &
        server=$!
        while kill -0 "$server" 2>/dev/null; do
            if curl --silent --fail --noproxy '*' --output /dev/null "http://127.0.0.1:$port/-/ready"; then
                return
            fi
            sleep 0.2
        done
        wait "$server" || true
        server=
    done
    fail "the temporary Prometheus does not start: $(tail -n 1 "$work/server.log")"
}

create_blocks() {
    promtool tsdb create-blocks-from "$@" >"$work/promtool.log" 2>&1
}

echo "global: {}" >"$work/prometheus.yml"
read -r first last daily < <(awk '
    !/^#/ { if (first == "" || $NF < first) first = $NF; if ($NF > last) last = $NF; if ($NF % 86400) other = 1 }
    END { printf "%d %d %d\n", first, last, !other }' "$samples")
((last > 0)) || fail "$samples has no samples; choose other days"
hold=1 limit=$last
if ((daily)); then
    hold=$day limit=$(($(date +%s) - head))
    ((limit < last + day)) || limit=$((last + day - 1))
    last=$((limit / step * step))
fi

# promtool reads its whole input once for each block, so it gets the samples of one block at a time.
mkdir "$work/parts"
awk -v folder="$work/parts" -v block="$sample_block" -v hold="$hold" '
    !/^#/ { for (part = int($NF / block); part <= int(($NF + hold - 1) / block); part++) print >(folder "/" part) }
' "$samples"
count=0
for part in "$work"/parts/*; do
    awk -v from=$((${part##*/} * sample_block)) -v block="$sample_block" -v hold="$hold" -v step="$step" -v limit="$limit" '
        {
            series = substr($0, 1, length($0) - length($NF))
            end = $NF + hold
            if (end > from + block) end = from + block
            for (time = $NF < from ? from : $NF; time < end && time <= limit; time += step) printf "%s%d\n", series, time
        }
        END { print "# EOF" }' "$part" >"$work/part"
    rm "$part"
    lines=$(wc -l <"$work/part")
    if ((lines > 1)); then
        create_blocks openmetrics --max-block-duration="${sample_block}s" "$work/part" "$work/blocks" ||
            fail "promtool cannot read $samples: $(tail -n 1 "$work/promtool.log")"
        count=$((count + lines - 1))
    fi
done
rm "$work/part"

# Writes level-1.yml, level-2.yml, …, each with the rules that need no rule of a later level.
awk -v folder="$work" '
    /^  - name:/ { inside = 0 }
    /^      - / { inside = 1; n++ }
    inside && /^        record:/ { name[n] = $2; gsub(/"/, "", name[n]) }
    inside { text[n] = text[n] $0 "\n"; if (!/record:/) code[n] = code[n] $0 "\n" }
    END {
        for (level = 1; ; level++) {
            found = 0
            for (i = 1; i <= n; i++) {
                if (i in done) continue
                ready = 1
                for (j = 1; j <= n; j++)
                    if (!(j in done) && index(code[i], name[j])) ready = 0
                if (ready) { now[i]; found++ }
            }
            if (!found) break
            file = folder "/level-" level ".yml"
            printf "groups:\n  - name: level-%d\n    rules:\n", level >file
            for (i in now) { printf "%s", text[i] >file; done[i] }
            close(file)
            delete now
        }
        for (i = 1; i <= n; i++)
            if (!(i in done)) print "left out, because it needs its own past: " name[i]
    }' "$rules"

for level in "$work"/level-*.yml; do
    start_server
    # The path of the file decides at which second of the step promtool evaluates it. A second run must not add other times.
    (cd "$work" && create_blocks rules --quiet --max-block-duration="${rule_block}s" --url="http://127.0.0.1:$port" \
        --start="$first" --end="$last" --eval-interval="${step}s" --output-dir=blocks "${level##*/}") ||
        fail "the rules cannot be evaluated: $(tail -n 1 "$work/promtool.log")"
    stop_server
done

blocks=0
for block in "$work"/blocks/*/meta.json; do
    block=$(dirname "$block")
    chown -R --reference="$data" "$block"
    mv "$block" "$data/"
    blocks=$((blocks + 1))
done
echo "added $count samples and the recording rules as $blocks blocks to $data," \
    "from $(date --utc --date="@$first" +%FT%TZ) to $(date --utc --date="@$last" +%FT%TZ)"
echo "start Prometheus with a retention (--storage.tsdb.retention.time) that reaches back to the first of these days"
