#!/bin/bash
# The chapter about connecting meters does what it says: its commands and its SQL run as printed, in their order, against the farm
# it describes, and what it says of their output is there.
# shellcheck source=tests/e2e/poller.sh
. "$(dirname "$0")/poller.sh"

doc=$here/../../doc/field.md
work=$SM_RUN/chapter
mkdir "$work"

# The ports of the chapter become free ones.
ports=()
for n in 1 2 3 4; do
	ports+=(-e "s/1520$n/$(port_free)/g")
done

# One file per block, in their order, named by what is in it.
sed "${ports[@]}" "$doc" | awk -v dir="$work" '
	!inside && /^```(farm|sql|sh|file)/ { inside = 1; n++; kind = substr($1, 4); name = sprintf("%s/%03d.%s", dir, n, kind); if (kind == "file") print $2 > (name ".name"); printf "" > name; next }
	inside && /^```$/ { inside = 0; close(name); next }
	inside { print > name }'
ok 'the chapter has its blocks' test "$(find "$work" -name '*.s*' | wc -l)" -ge 20

setup 'start the server' server_start db --preload
setup 'make the database' server_createdb db field --bare
# Last: its registers count while the rest is made ready.
setup 'start the farm of the chapter' farm_start "$SM_RUN" < <(cat "$work"/*.farm)
DSN="$(server_conninfo db field) user=meter_reader"
DSN_ADMIN="$(server_conninfo db field) user=postgres"
export DSN DSN_ADMIN
mkdir "$work/bin" "$work/dir"
# Tests may run as root, which the daemon refuses unless told.
printf '#!/bin/bash\ncase $1 in --*) exec %q "$@" --allow-root ;; *) exec %q "$@" ;; esac\n' "$POLLER" "$POLLER" >"$work/bin/submeter-poller"
chmod +x "$work/bin/submeter-poller"
PATH=$work/bin:$PATH

# run_sql FILE: each statement; "-- = text" behind one is what it gives last
run_sql()
{
	awk '{ wanted = $0; if (sub(/^.*;  -- = /, "", wanted)) { sub(/  -- = .*$/, ""); print; print "\\echo wanted " wanted } else print }' "$1" >"$1.psql"
	server_psql db field -v ON_ERROR_STOP=1 -c 'SET search_path = submeter, public' -f "$1.psql" >"$1.out" 2>"$1.err"
	is $? 0 "$(basename "$1"): every statement runs" || diag "$(cat "$1.err")"
	is "$(awk '/^wanted / { sub(/^wanted /, ""); if ($0 != last) print "wanted " $0 ", got " last; next } { last = $0 }' "$1.out")" '' \
		"$(basename "$1"): and gives what is written"
}

# run_chunk NAME: the commands in $chunk, whose output has every line of $wanted
run_chunk()
{
	local status=0 out line
	out=$(cd "$work/dir" && bash -c "$chunk" 2>"$work/stderr") || status=$?
	# A daemon that was only let run for a while is ended by timeout.
	[[ $chunk == timeout* && $status = 124 ]] && status=0
	is "$status" 0 "$1: $(head -n 1 <<<"$chunk" | cut -c1-90)" || diag "$out" "$(cat "$work/stderr")"
	out=$(tr -s ' ' <<<"$out")
	while IFS= read -r line; do
		[ -n "$line" ] || continue
		ok "$1: says $line" grep -qF -- "$line" <<<"$out" || diag "$out"
	done <<<"$wanted"
}

run_sh()
{
	local line chunk='' wanted=''
	while IFS= read -r line || [ -n "$line" ]; do
		case $line in
			'# = '*) wanted+="${line#\# = }"$'\n' ;;
			*)
				if [ -n "$wanted" ]; then
					run_chunk "$(basename "$1")"
					chunk='' wanted=''
				fi
				chunk+=$line$'\n'
				;;
		esac
	done <"$1"
	run_chunk "$(basename "$1")"
}

for block in "$work"/[0-9]*; do
	case $block in
		*.sql) run_sql "$block" ;;
		*.sh) run_sh "$block" ;;
		*.file) cp "$block" "$work/dir/$(cat "$block.name")" ;;
	esac
done

is "$(server_psql db field -c "SELECT count(*) FROM submeter.meter_model WHERE NOT builtin")" 2 'two models of our own'
is "$(farm get tower 000000000012 relay) $(farm log tower writes)" 'open 1' 'one write to a meter in the whole chapter, and what it was to do'
is "$(farm log hall writes) $(farm log shed writes) $(farm log kiosk writes)" '0 0 0' 'and nothing to any other'
farm_stop
done_testing
